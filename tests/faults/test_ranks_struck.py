"""One fault at a time in a training of two ranks: what is lost, how soon it is noticed, and that the resumed run is the straight run.

These are plain processes, for the claims are about the train function and its files; what Ray makes of a dead worker is in
test_groups_struck.py.
"""

from __future__ import annotations

import errno
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import schedule
import torch
from ranks import CHECKPOINT_EVERY, NUM_STEPS, Forge, steps
from record import record
from safetensors.torch import load_file
from schedule import STEP, Fault

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]
SAVED = "thinkrec.train.checkpoint:Checkpoints.save"
SEALED = "thinkrec.store.artefacts:_inventory"  # the state is written, the manifest is not


@pytest.fixture(scope="module")
def forge() -> Iterator[Forge]:
    with Forge() as made:
        yield made


@pytest.fixture(scope="module")
def straight(forge, tmp_path_factory) -> dict[str, torch.Tensor]:
    folder = tmp_path_factory.mktemp("straight")
    assert forge.train(folder).statuses == [0, 0]
    assert steps(folder) == list(range(NUM_STEPS))
    return weights(folder)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "weights.safetensors")


def errors(folder: Path, rank: int) -> str:
    return (folder / f"stderr.{rank}").read_text()


def repeated(folder: Path) -> int:
    """Steps that were made twice; every step was made."""
    made = steps(folder)
    assert set(made) == set(range(NUM_STEPS))
    return len(made) - NUM_STEPS


def equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)


STRIKES = {
    "a worker is killed in a step": [Fault(STEP, "kill", rank=1, step=7)],
    "rank 0 is killed while it writes a checkpoint": [Fault(SEALED, "kill", rank=0, call=2)],
    "rank 1 is killed while rank 0 writes a checkpoint": [
        Fault(SEALED, "wait", rank=0, call=2, until=1),
        Fault("thinkrec.train.loop:_step", "kill", rank=1, call=11),
    ],
}


@pytest.mark.parametrize("name", STRIKES)
def test_a_rank_is_killed(name, straight, forge, tmp_path):
    plan = schedule.write(tmp_path / "plan", *STRIKES[name])
    folder = tmp_path / "run"
    first = forge.train(folder, plan=plan)
    *_, mark = schedule.require(plan)
    assert first.statuses[mark["rank"]] == -signal.SIGKILL
    assert first.statuses[1 - mark["rank"]] > 0  # its neighbour does not wait for it for ever
    assert forge.train(folder, plan=plan).statuses == [0, 0]
    assert equal(weights(folder), straight)
    assert repeated(folder) <= CHECKPOINT_EVERY
    record(name, repeated(folder), max(first.ended_at_s) - mark["at_s"])


def test_a_rank_that_hangs_in_a_collective_is_noticed_within_twice_the_window(straight, forge, tmp_path):
    window_s = 15.0
    plan = schedule.write(tmp_path / "plan", Fault(STEP, "stop", rank=1, step=7))
    folder = tmp_path / "run"
    first = forge.train(folder, plan=plan, hang_s=window_s)
    [mark] = schedule.require(plan)
    noticed_s = first.ended_at_s[0] - mark["at_s"]
    assert first.statuses == [1, -signal.SIGKILL]
    assert noticed_s < 2 * window_s
    assert "all_reduce" in (folder / "hang.0").read_text()  # where it waited for its neighbour
    assert forge.train(folder, plan=plan, hang_s=window_s).statuses == [0, 0]
    assert not (folder / "hang.0").exists()
    assert equal(weights(folder), straight)
    record("a rank hangs in a collective", repeated(folder), noticed_s)


def test_a_gradient_that_is_not_finite_stops_all_ranks_before_anything_moves(straight, forge, tmp_path):
    """One of rank 1's numbers is NaN; the state at the stop is that of the straight run at that step."""
    plan = schedule.write(tmp_path / "plan", Fault(STEP, "nan", rank=1, step=CHECKPOINT_EVERY))
    folder = tmp_path / "run"
    first = forge.train(folder, plan=plan)
    [mark] = schedule.require(plan)
    assert first.statuses == [1, 1]
    assert all("NonFiniteLoss: the gradient of slot [0] is NaN or infinite" in error for error in (errors(folder, 0), errors(folder, 1)))
    assert steps(folder) == list(range(CHECKPOINT_EVERY))
    noticed_s = max(first.ended_at_s) - mark["at_s"]
    assert forge.train(folder, plan=plan).statuses == [0, 0]
    assert equal(weights(folder), straight)
    record("a gradient is not finite", repeated(folder), noticed_s)


def test_a_full_disk_stops_the_run_and_leaves_the_checkpoint_before(straight, forge, tmp_path):
    plan = schedule.write(tmp_path / "plan", Fault(SEALED, "raise", rank=0, call=2, errno=errno.ENOSPC))
    folder = tmp_path / "run"
    first = forge.train(folder, plan=plan, wait_s=300)
    [mark] = schedule.require(plan)
    assert "No space left on device" in errors(folder, 0)
    noticed_s = first.ended_at_s[0] - mark["at_s"]
    assert noticed_s < 300  # it was not waited for
    assert len(list(folder.glob("checkpoints/*/manifest.json"))) == 1
    assert forge.train(folder, plan=plan).statuses == [0, 0]
    assert equal(weights(folder), straight)
    record("the disk is full", repeated(folder), noticed_s)


@pytest.mark.parametrize("patient", [True, False])
def test_a_storage_that_is_away_for_a_while(patient, straight, forge, tmp_path):
    """60 s, scaled down; with less patience than that the group fails and its next try goes on from the checkpoint before."""
    away_s = 4.0
    plan = schedule.write(tmp_path / "plan", Fault(SEALED, "raise", rank=0, call=2, errno=errno.EIO, for_s=away_s))
    folder = tmp_path / "run"
    first = forge.train(folder, plan=plan, wait_s=60 if patient else 1)
    [mark] = schedule.require(plan)
    assert (first.statuses == [0, 0]) == patient
    if not patient:
        assert "Input/output error" in errors(folder, 0)
        time.sleep(max(0.0, mark["at_s"] + away_s - time.time()))
        assert forge.train(folder, plan=plan).statuses == [0, 0]
    assert equal(weights(folder), straight)
    assert repeated(folder) <= (0 if patient else CHECKPOINT_EVERY)
    record("the storage is away, waited for" if patient else "the storage is away for longer", repeated(folder), None)


def test_two_workers_then_one_then_two(straight, forge, tmp_path):
    """A group of any size takes up what another size has saved; sums run in another order, so the weights agree to rounding alone."""
    plans = [schedule.write(tmp_path / f"plan{step}", Fault(STEP, "kill", rank=0, step=step)) for step in (6, 11)]
    folder = tmp_path / "run"
    for num_ranks, plan in zip((2, 1), plans, strict=True):
        forge.train(folder, num_ranks, plan)
        schedule.require(plan)
    assert forge.train(folder, 2).statuses == [0, 0]
    assert steps(folder) == [*range(6), *range(5, 11), *range(10, 12)]
    found = weights(folder)
    assert all((straight[name] - found[name]).norm() / straight[name].norm() <= 1e-4 for name in straight)
    record("two workers, then one, then two", repeated(folder), None)


def test_a_fault_that_does_not_land_changes_nothing_and_skips(straight, forge, tmp_path):
    plan = schedule.write(tmp_path / "plan", Fault(STEP, "kill", rank=1, step=NUM_STEPS + 1))
    assert forge.train(tmp_path / "run", plan=plan).statuses == [0, 0]
    assert equal(weights(tmp_path / "run"), straight)
    with pytest.raises(pytest.skip.Exception, match="did not land"):
        schedule.require(plan)
