"""Checkpoints: the newest sound one is taken, a spoilt one is passed over, two are kept, runs do not mix."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from thinkrec.store import MANIFEST
from thinkrec.train.checkpoint import FILE, STAGE, Checkpoints


def state(seed: int) -> dict[str, tuple[torch.Tensor, ...]]:
    """Two parameters with their moments."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"llm.layers.0.lora_A": (2, 3), "projector.bias": (4,)}
    return {name: tuple(torch.randn(shape, generator=generator) for _ in range(3)) for name, shape in shapes.items()}


def same(found: dict[str, tuple[torch.Tensor, ...]], expected: dict[str, tuple[torch.Tensor, ...]]) -> bool:
    return found.keys() == expected.keys() and all(
        torch.equal(a, b) for name in found for a, b in zip(found[name], expected[name], strict=True)
    )


@pytest.fixture
def checkpoints(tmp_path) -> Checkpoints:
    return Checkpoints(str(tmp_path), "global-3f2a")


def folders(root: str) -> list[str]:
    return sorted(path.name for path in Path(root, STAGE).iterdir())


def test_what_was_saved_comes_back_bit_for_bit(checkpoints):
    assert checkpoints.latest() is None
    checkpoints.save(5, state(5))
    step, found = checkpoints.latest()
    assert step == 5
    assert same(found, state(5))
    assert not same(found, state(6))


def test_the_two_newest_are_kept_by_number_not_by_name(checkpoints):
    for step in (9, 100, 20, 200):
        checkpoints.save(step, state(step))
    assert folders(checkpoints.root) == ["global-3f2a.00000100", "global-3f2a.00000200"]
    assert checkpoints.latest()[0] == 200


def flip(folder: Path) -> None:
    content = bytearray((folder / FILE).read_bytes())
    content[-1] ^= 1
    (folder / FILE).write_bytes(content)


SPOILT = {
    "truncated": lambda folder: (folder / FILE).write_bytes((folder / FILE).read_bytes()[:-8]),
    "one bit flipped": flip,
    "file gone": lambda folder: (folder / FILE).unlink(),
    "no manifest": lambda folder: (folder / MANIFEST).unlink(),
    "half a manifest": lambda folder: (folder / MANIFEST).write_text((folder / MANIFEST).read_text()[:40]),
    "manifest of another program": lambda folder: (folder / MANIFEST).write_text('{"schema_version": 99}'),
    "nothing but a folder": lambda folder: [file.unlink() for file in folder.iterdir()],
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_spoilt_newest_is_passed_over_and_the_older_good_one_taken(checkpoints, case):
    checkpoints.save(10, state(10))
    checkpoints.save(20, state(20))
    SPOILT[case](Path(checkpoints.root, STAGE, "global-3f2a.00000020"))
    step, found = checkpoints.latest()
    assert step == 10
    assert same(found, state(10))
    checkpoints.save(20, state(21))
    assert same(checkpoints.latest()[1], state(21))


def test_when_all_are_spoilt_there_is_none(checkpoints):
    for step in (10, 20):
        checkpoints.save(step, state(step))
        flip(Path(checkpoints.root, STAGE, f"global-3f2a.{step:08d}"))
    assert checkpoints.latest() is None


def test_runs_do_not_see_each_other(checkpoints):
    others = [Checkpoints(checkpoints.root, name) for name in ("global-3f2b", "global-3f2", "global-3f2a.x")]
    for number, other in enumerate(others):
        other.save(50 + number, state(number))
    assert checkpoints.latest() is None
    checkpoints.save(7, state(7))
    checkpoints.clear()
    checkpoints.clear()
    assert checkpoints.latest() is None
    assert [other.latest()[0] for other in others] == [50, 51, 52]
