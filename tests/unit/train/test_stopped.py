"""The loop as it is told to end: what trains is saved at that very step, and every rank ends with the same word."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
import torch
from torch import distributed

from thinkrec.distributed import stopping
from thinkrec.distributed.failures import NodeLeaving, classify
from thinkrec.distributed.stopping import Notice
from thinkrec.errors import Interrupted
from thinkrec.train import loop
from thinkrec.train.checkpoint import Checkpoints, TrainState
from thinkrec.train.deepspeed import engine

START = {"weight": (torch.zeros(2, 1), torch.zeros(2, 1), torch.zeros(2, 1))}


class Engine:
    """As much of DeepSpeed's engine as the loop touches; a notice arrives in the micro batch of step `told_at`."""

    def __init__(self, notice: Notice, told_at: int) -> None:
        self.notice, self.told_at, self.num_steps = notice, told_at, 0

    def __call__(self, step: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        self.notice.given |= self.num_steps == self.told_at
        return torch.zeros(()), {"loss": torch.zeros(2)}

    def train(self) -> None: ...

    def set_gradient_accumulation_boundary(self, last: bool) -> None: ...

    def backward(self, loss: torch.Tensor, scale_wrt_gas: bool) -> None: ...

    def step(self) -> None:
        self.num_steps += 1

    def was_step_applied(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def one_rank(monkeypatch) -> None:
    for name, result in (("deal_state", None), ("set_rates", None), ("gather_state", START)):
        monkeypatch.setattr(engine, name, lambda *_, result=result: result)
    monkeypatch.setattr(distributed, "get_rank", lambda: 0)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 1)


def train(tmp_path, notice: Notice, told_at: int) -> Iterator[tuple[int, TrainState]]:
    """Two slots of 3 and 6 steps."""
    learners = [loop.Learner(num_steps, 1e-3, Checkpoints(str(tmp_path), f"slot{num_steps}")) for num_steps in (3, 6)]
    start = {name: tuple(part[:1] for part in parts) for name, parts in START.items()}
    return loop.run(
        Engine(notice, told_at), learners, lambda steps: [(max(s for s in steps if s is not None),)], start, num_slots=2, notice=notice
    )


def steps(tmp_path) -> list[str]:
    return sorted(folder.name for folder in (tmp_path / "checkpoints").iterdir())


def test_all_that_has_not_ended_is_saved_at_the_step_of_the_notice(tmp_path, monkeypatch):
    monkeypatch.setattr(stopping, "is_ordered", lambda: True)
    with pytest.raises(Interrupted, match="SIGTERM") as caught:
        list(train(tmp_path, Notice(), told_at=1))
    assert steps(tmp_path) == ["slot3.00000002", "slot6.00000002"]
    assert caught.value.exit_code == 4
    assert [slot for slot, _ in train(tmp_path, Notice(), told_at=99)] == [0, 1]  # goes on from there: a third step is its last


def test_a_slot_that_ends_with_that_step_is_handed_over_first(tmp_path, monkeypatch):
    monkeypatch.setattr(stopping, "is_ordered", lambda: True)
    handed = []
    with pytest.raises(Interrupted):
        handed += [handed.append(slot) for slot, _ in train(tmp_path, Notice(), told_at=2)]
    assert handed == [0]
    assert steps(tmp_path) == ["slot6.00000003"]


def test_without_a_notice_nothing_is_saved(tmp_path):
    assert [slot for slot, _ in train(tmp_path, Notice(), told_at=99)] == [0, 1]
    assert not (tmp_path / "checkpoints").exists()


def test_a_node_that_goes_away_sends_its_group_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(stopping, "is_ordered", lambda: False)
    monkeypatch.setattr(stopping, "leaving_nodes", lambda: {"n1", "n2"})
    monkeypatch.setattr(stopping, "_own_node", lambda: "n3")
    notice = Notice()
    notice.look()
    assert not notice.given
    monkeypatch.setattr(stopping, "_own_node", lambda: "n2")
    notice.look()
    assert notice.given
    with pytest.raises(NodeLeaving) as caught:
        list(train(tmp_path, notice, told_at=99))
    assert classify([caught.value])[0].name == "node_lost"
    assert steps(tmp_path) == ["slot3.00000001", "slot6.00000001"]


def test_who_trains_without_a_cluster_needs_no_ray(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with stopping.heed() as notice:
        assert not notice.given
