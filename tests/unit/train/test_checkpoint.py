"""Checkpoints: the newest sound one is taken, a spoilt one is refused by name, few are kept, runs do not mix."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from thinkrec.distributed import failures
from thinkrec.errors import ConfigError
from thinkrec.store.artefacts import MANIFEST
from thinkrec.train.checkpoint import STAGE, STATE_FILE, Checkpoints


def state(seed: int, rank: int = 2) -> dict[str, tuple[torch.Tensor, ...]]:
    """Two parameters with their moments."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"llm.layers.0.lora_A": (rank, 3), "projector.bias": (4,)}
    return {name: tuple(torch.randn(shape, generator=generator) for _ in range(3)) for name, shape in shapes.items()}


def same(found: dict[str, tuple[torch.Tensor, ...]], expected: dict[str, tuple[torch.Tensor, ...]]) -> bool:
    return found.keys() == expected.keys() and all(
        torch.equal(a, b) for name in found for a, b in zip(found[name], expected[name], strict=True)
    )


START = state(0)


def newest(checkpoints: Checkpoints) -> tuple[int, dict[str, tuple[torch.Tensor, ...]]]:
    step = checkpoints.latest(START)
    return step, checkpoints.load(step, START)


@pytest.fixture
def checkpoints(tmp_path) -> Checkpoints:
    return Checkpoints(str(tmp_path), "global-3f2a")


def folders(root: str) -> list[str]:
    return sorted(path.name for path in Path(root, STAGE).iterdir())


def events(root: str) -> list[dict[str, Any]]:
    log = Path(root, "run.jsonl")
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def test_what_was_saved_comes_back_bit_for_bit(checkpoints):
    assert checkpoints.latest(START) == 0
    checkpoints.save(5, state(5))
    step, found = newest(checkpoints)
    assert step == 5
    assert same(found, state(5))
    assert not same(found, state(6))


def test_the_newest_are_kept_by_number_not_by_name(checkpoints):
    for step in (9, 100, 20, 200):
        checkpoints.save(step, state(step))
    assert folders(checkpoints.root) == ["global-3f2a.00000100", "global-3f2a.00000200"]
    assert checkpoints.latest(START) == 200
    three = Checkpoints(checkpoints.root, checkpoints.name, num_kept=3)
    for step in (300, 400):
        three.save(step, state(step))
    assert folders(checkpoints.root) == [f"global-3f2a.{step:08d}" for step in (200, 300, 400)]


def flip(folder: Path) -> None:
    content = bytearray((folder / STATE_FILE).read_bytes())
    content[-1] ^= 1
    (folder / STATE_FILE).write_bytes(content)


def bring(folder: Path, name: str, seed: int = 20, **sizes: int) -> None:
    """Put another training's checkpoint of the same step in this one's place."""
    shutil.rmtree(folder)
    Checkpoints(str(folder.parents[1]), name).save(20, state(seed, **sizes))
    if not folder.exists():
        shutil.copytree(folder.with_name(f"{name}.00000020"), folder)


def reseal(folder: Path, content: bytes, **changed: Any) -> None:
    """Another file under a manifest that vouches for it."""
    (folder / STATE_FILE).write_bytes(content)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][STATE_FILE] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    (folder / MANIFEST).write_text(json.dumps(manifest | changed))


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("evil-was-here",)


CUT_OFF = {  # by a kill: no word is lost on it
    "no manifest": lambda folder: (folder / MANIFEST).unlink(),
    "nothing but a folder": lambda folder: [file.unlink() for file in folder.iterdir()],
    "half a state, no manifest": lambda folder: ((folder / MANIFEST).unlink(), os.truncate(folder / STATE_FILE, 50)),
}
SPOILT = {  # what was done to it, and how it is refused
    "truncated": (lambda folder: os.truncate(folder / STATE_FILE, (folder / STATE_FILE).stat().st_size - 8), "has changed"),
    "one bit flipped": (flip, "has changed"),
    "file gone": (lambda folder: (folder / STATE_FILE).unlink(), "is gone"),
    "half a manifest": (lambda folder: os.truncate(folder / MANIFEST, 40), "not whole"),
    "a manifest of another program": (lambda folder: (folder / MANIFEST).write_text('{"schema_version": 99}'), "schema 99"),
    "a newer format": (
        lambda folder: reseal(folder, (folder / STATE_FILE).read_bytes(), settings={"format": 2}),
        "format 2, this program reads 1",
    ),
    "another expert": (lambda folder: bring(folder, "expert-77aa"), "expert-77aa.00000020, brought here"),
    "another run": (lambda folder: bring(folder, "global-3f2b"), "global-3f2b.00000020, brought here"),
    "another rank of adapter": (lambda folder: bring(folder, "global-3f2a", rank=5), "not those of this training"),
    "a pickle": (lambda folder: reseal(folder, pickle.dumps(Evil())), "cannot be read"),
}


@pytest.mark.parametrize("case", [*SPOILT, *CUT_OFF])
def test_a_spoilt_newest_is_refused_by_name_and_the_older_good_one_taken(checkpoints, case, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    checkpoints.save(10, state(10))
    checkpoints.save(20, state(20))
    folder = Path(checkpoints.root, STAGE, "global-3f2a.00000020")
    spoil, reason = SPOILT.get(case) or (CUT_OFF[case], "")
    spoil(folder)
    step, found = newest(checkpoints)
    assert step == 10
    assert same(found, state(10))
    assert not Path("evil-was-here").exists()
    told = [(event["event"], event["checkpoint"]) for event in events(checkpoints.root)]
    assert told == ([("checkpoint refused", "global-3f2a.00000020")] if reason else [])
    assert all(reason in event["reason"] and "global-3f2a.00000020" in event["where"] for event in events(checkpoints.root))
    checkpoints.save(20, state(21))
    assert same(newest(checkpoints)[1], state(21))


def test_a_link_out_of_the_run_is_refused_and_what_it_leads_to_left_alone(checkpoints, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    (outside / "precious.txt").write_text("mine")
    (outside / MANIFEST).write_text("{}")
    checkpoints.save(10, state(10))
    Path(checkpoints.root, STAGE, "global-3f2a.00000020").symlink_to(outside)
    with pytest.raises(ConfigError, match="link leads out"):
        checkpoints.latest(START)
    with pytest.raises(ConfigError, match="link leads out"):
        checkpoints.save(20, state(20))
    with pytest.raises(ConfigError, match="link leads out"):
        checkpoints.clear()
    assert sorted(path.name for path in outside.iterdir()) == [MANIFEST, "precious.txt"]


def test_when_all_are_spoilt_there_is_none(checkpoints):
    for step in (10, 20):
        checkpoints.save(step, state(step))
        flip(Path(checkpoints.root, STAGE, f"global-3f2a.{step:08d}"))
    assert checkpoints.latest(START) == 0


def test_runs_do_not_see_each_other(checkpoints):
    others = [Checkpoints(checkpoints.root, name) for name in ("global-3f2b", "global-3f2", "global-3f2a.x")]
    for number, other in enumerate(others):
        other.save(50 + number, state(number))
    assert checkpoints.latest(START) == 0
    checkpoints.save(7, state(7))
    checkpoints.clear()
    checkpoints.clear()
    assert checkpoints.latest(START) == 0
    assert [other.latest(START) for other in others] == [50, 51, 52]


def away(monkeypatch, number: int, times: int) -> None:
    """The next `times` looks at the disk fail with this error number."""
    fsync, left = os.fsync, [times]

    def failing(handle: int) -> None:
        if left[0]:
            left[0] -= 1
            raise OSError(number, os.strerror(number))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", failing)


def test_a_storage_that_comes_back_in_time_is_waited_for(tmp_path, monkeypatch):
    slept: list[float] = []  # a clock of its own: on a crowded machine a save takes longer than the patience of a test
    monkeypatch.setattr(failures, "sleep", slept.append)
    monkeypatch.setattr(failures, "monotonic", lambda: sum(slept))
    patient = Checkpoints(str(tmp_path), "global-3f2a", wait_s=0.4)
    away(monkeypatch, errno.EIO, times=2)
    patient.save(10, state(10))
    assert same(newest(patient)[1], state(10))
    away(monkeypatch, errno.EIO, times=10**6)
    with pytest.raises(OSError, match="Input/output error"):
        patient.save(20, state(20))
    assert patient.latest(START) == 10


def test_a_full_disk_is_not_waited_for_and_spoils_nothing(tmp_path, monkeypatch):
    patient = Checkpoints(str(tmp_path), "global-3f2a", wait_s=60)
    patient.save(10, state(10))
    away(monkeypatch, errno.ENOSPC, times=1)
    with pytest.raises(OSError, match="No space left"):
        patient.save(20, state(20))
    assert same(newest(patient)[1], state(10))
