"""Fingerprints: what decides a result changes them, and nothing that merely lies beside it does."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from thinkrec.journal import EVENTS
from thinkrec.store import digests
from thinkrec.store.digests import file_digest, fingerprint, list_files


@pytest.fixture
def data(tmp_path) -> Path:
    """A data folder with a folder in it."""
    (tmp_path / "data/interactions").mkdir(parents=True)
    (tmp_path / "data/items.parquet").write_text("items")
    (tmp_path / "data/interactions/a.parquet").write_text("rows")
    return tmp_path / "data"


@pytest.fixture
def large(monkeypatch):
    """Files above 64 bytes are large ones, and samples have a byte."""
    monkeypatch.setattr(digests, "WHOLE_BYTES", 64)
    monkeypatch.setattr(digests, "SAMPLE_BYTES", 1)


BESIDE = [
    "run.toml",
    "notes.ipynb",
    ".ipynb_checkpoints/items-checkpoint.parquet",
    ".DS_Store",
    ".git/index",
    ".cache/huggingface/download/items.parquet.metadata",
    "README.md",
    "__pycache__/load.cpython-311.pyc",
    "interactions/.a.parquet.crc",
    f"runs/other/{EVENTS}",
]


@pytest.mark.parametrize("name", BESIDE)
def test_what_lies_beside_the_data_changes_nothing(data, name):
    before = fingerprint(data)
    (data / name).parent.mkdir(parents=True, exist_ok=True)
    (data / name).write_text("beside")
    assert fingerprint(data) == before


@pytest.mark.parametrize("name", ["users.parquet", "interactions/b.parquet", "_delta_log/0.json", "log/part-00000", "u.data"])
def test_what_a_reader_may_read_changes_it(data, name):
    before = fingerprint(data)
    (data / name).parent.mkdir(parents=True, exist_ok=True)
    (data / name).write_text("more")
    assert fingerprint(data) != before


@pytest.mark.parametrize("run_dir", ["data/runs/a", "data/../data/runs/a", "link/runs/a"])
def test_the_run_folder_in_the_data_folder_is_left_out_before_and_after_it_is_there(data, run_dir, monkeypatch):
    monkeypatch.chdir(data.parent)
    (data.parent / "link").symlink_to(data)
    before = fingerprint("data", run_dir)
    (data / "runs/a/ingest").mkdir(parents=True)
    (data / "runs/a/ingest/items.parquet").write_text("made")
    assert fingerprint("data", run_dir) == before == fingerprint(str(data), run_dir)
    assert fingerprint("data", "elsewhere") != before  # a folder of a run only if it says so
    (data / "runs/a" / EVENTS).write_text("{}")
    assert fingerprint("data", "elsewhere") == before


def test_a_run_folder_around_the_data_leaves_the_data_in(data):
    assert fingerprint(data, str(data.parent)) == fingerprint(data)
    (data.parent / EVENTS).write_text("{}")
    assert len(list_files(str(data), str(data.parent))) == 2


def test_folders_behind_links_count_and_loops_end(data):
    before = fingerprint(data)
    (data / "interactions/loop").symlink_to(data)
    (data / "broken.parquet").symlink_to(data / "none")
    assert fingerprint(data) == before
    shutil.move(data / "interactions", data.parent / "elsewhere")
    (data / "interactions").symlink_to(data.parent / "elsewhere")
    assert fingerprint(data) == before
    (data.parent / "elsewhere/a.parquet").write_text("other")
    assert fingerprint(data) != before


@pytest.mark.parametrize("at", [0, 462, 990])
def test_a_large_file_is_known_by_its_size_and_samples_whenever_it_was_fetched(tmp_path, large, at):
    file = tmp_path / "model.safetensors"
    content = bytearray(991)  # samples lie 66 bytes apart
    file.write_bytes(content)
    before = file_digest(str(file)), fingerprint(file), fingerprint(tmp_path)
    os.utime(file, (1, 1))
    assert (file_digest(str(file)), fingerprint(file), fingerprint(tmp_path)) == before
    content[at] = 1
    file.write_bytes(content)
    assert file_digest(str(file)) != before[0]
    file.write_bytes(bytearray(992))
    assert file_digest(str(file)) != before[0]


def test_a_small_file_is_read_whole(tmp_path):
    file = tmp_path / "ratings.csv"
    file.write_bytes(b"a" * 3_000_000)
    before = file_digest(str(file))
    file.write_bytes(b"a" * 1_500_001 + b"b" + b"a" * 1_499_998)
    assert file_digest(str(file)) != before


def test_at_an_address_the_same_files_count(data):
    address = f"file://{data}"
    before = fingerprint(address)
    (data / "run.toml").write_text("beside")
    assert fingerprint(address) == before
    (data / "users.parquet").write_text("more")
    assert fingerprint(address) != before
