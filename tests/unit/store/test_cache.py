"""Copies of remote artefacts: whole or not at all, one download a node, and bounded."""

from __future__ import annotations

import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pyarrow import fs

from thinkrec.errors import EnvironmentFault
from thinkrec.store import cache
from thinkrec.store.cache import CACHE_GIB, IN_USE_S, hold, local_copy

SYSTEM = fs.LocalFileSystem()


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch) -> Path:
    """Where copies are kept."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv(CACHE_GIB, raising=False)
    return tmp_path / "home/.cache/thinkrec"


@pytest.fixture
def remote(tmp_path) -> str:
    """A folder to copy, of 2 MiB."""
    (tmp_path / "remote/deep").mkdir(parents=True)
    (tmp_path / "remote/deep/data.bin").write_bytes(bytes(2**21))
    return str(tmp_path / "remote")


def test_a_copy_that_was_cut_off_is_never_taken_for_the_artefact(remote, kept, monkeypatch):
    copy_files = fs.copy_files

    def die_halfway(source: str, target: str, **systems: fs.FileSystem) -> None:
        shutil.copy(f"{source}/deep/data.bin", target)
        raise ZeroDivisionError

    monkeypatch.setattr(fs, "copy_files", die_halfway)
    with pytest.raises(ZeroDivisionError):
        local_copy(SYSTEM, remote, "a")
    monkeypatch.setattr(fs, "copy_files", copy_files)
    assert (local_copy(SYSTEM, remote, "a") / "deep/data.bin").stat().st_size == 2**21
    assert [path.name for path in kept.iterdir()] == ["a"]


def test_of_many_that_ask_at_once_one_downloads(remote, monkeypatch):
    copy_files, num_copied, asked = fs.copy_files, [], threading.Barrier(4)

    def copy_slowly(*places: str, **systems: fs.FileSystem) -> None:
        num_copied.append(1)
        copy_files(*places, **systems)

    def ask() -> Path:
        asked.wait()
        return local_copy(SYSTEM, remote, "a")

    monkeypatch.setattr(fs, "copy_files", copy_slowly)
    with ThreadPoolExecutor(4) as threads:
        found = [thread.result() for thread in [threads.submit(ask) for _ in range(4)]]
    assert len(set(found)) == 1
    assert len(num_copied) == 1


def grow_old(folder: Path, age_s: float) -> None:
    at = folder.stat().st_mtime - age_s
    os.utime(folder, (at, at))


def test_the_copies_asked_for_longest_ago_go_first_and_those_in_use_stay(remote, kept, monkeypatch):
    monkeypatch.setenv(CACHE_GIB, "0.005")  # two copies fit
    for name, age_s in (("oldest", 3 * IN_USE_S), ("old", 2 * IN_USE_S)):
        grow_old(local_copy(SYSTEM, remote, name), age_s)
    local_copy(SYSTEM, remote, "new")
    assert sorted(path.name for path in kept.iterdir()) == ["new", "old"]
    local_copy(SYSTEM, remote, "old")  # asked for again: in use
    local_copy(SYSTEM, remote, "newer")
    assert sorted(path.name for path in kept.iterdir()) == ["new", "newer", "old"]


def test_a_copy_that_is_held_stays_however_old_it_grows_and_keeps_nobody_waiting(remote, kept, monkeypatch):
    monkeypatch.setenv(CACHE_GIB, "0.003")  # one copy fits
    with hold(local_copy(SYSTEM, remote, "a")), hold(kept / "a"):
        local_copy(SYSTEM, remote, "a")
        grow_old(kept / "a", 2 * IN_USE_S)
        local_copy(SYSTEM, remote, "b")
        assert (kept / "a").is_dir()
    local_copy(SYSTEM, remote, "c")
    assert not (kept / "a").exists()
    assert hold(Path(remote)) is None


def test_what_another_process_is_copying_is_left_to_it(remote, kept, monkeypatch):
    monkeypatch.setenv(CACHE_GIB, "0.001")
    (kept / "slow.part").mkdir(parents=True)
    (kept / "slow.part/data.bin").write_bytes(bytes(2**21))
    grow_old(kept / "slow.part", 2 * IN_USE_S)
    with cache._alone("slow"):
        local_copy(SYSTEM, remote, "a")
    assert (kept / "slow.part").is_dir()
    local_copy(SYSTEM, remote, "b")  # it has died meanwhile
    assert not (kept / "slow.part").exists()


def test_a_bound_that_is_no_number_is_told(remote, monkeypatch):
    monkeypatch.setenv(CACHE_GIB, "much")
    with pytest.raises(EnvironmentFault, match="THINKREC_CACHE_GIB=much is not a number"):
        local_copy(SYSTEM, remote, "a")
