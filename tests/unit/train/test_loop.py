"""The loop without an engine: who is saved and given out when, and how long it is ever silent."""

from __future__ import annotations

import threading

import pytest
import torch

from thinkrec.errors import DataError
from thinkrec.train import loop
from thinkrec.train.deepspeed import engine as zero
from thinkrec.train.loop import Learner

WINDOW_S = 100.0
LENGTHS = (5, 9, 14, 14, 14, 14, 14, 14)  # steps of eight learners: six end in the same one


class Clock:
    """Tells the time, and the longest silence between two beats."""

    def __init__(self) -> None:
        self.now = self.beaten = self.silence = 0.0

    def beat(self) -> None:
        self.silence, self.beaten = max(self.silence, self.now - self.beaten), self.now


class Memory:
    """Checkpoints that are slow to write and find none."""

    def __init__(self, clock: Clock, saved: list[tuple[int, int]], number: int) -> None:
        self.name, self._clock, self._saved, self._number = str(number), clock, saved, number

    def latest(self, start: object, at_most: int | None = None) -> int:
        return 0

    def save(self, step: int, state: object) -> None:
        self._clock.now += WINDOW_S / 4
        self._saved.append((self._number, step))


class Engine:
    def train(self) -> None:
        pass


@pytest.fixture
def run(monkeypatch):
    """run(...) -> (clock, [(slot, step)] saved, [(slot, steps of the leader)] given out)."""

    def go(lengths=LENGTHS, feed=lambda steps: [], compute=lambda batches: None, **options):
        clock, saved, given, made = Clock(), [], [], [0]
        monkeypatch.setattr(torch.distributed, "get_rank", lambda: 0)
        monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 1)
        monkeypatch.setattr(zero, "deal_state", lambda engine, state, steps: None)
        monkeypatch.setattr(zero, "set_rates", lambda engine, rates: None)
        monkeypatch.setattr(zero, "gather_state", lambda engine: {"w": (torch.arange(len(lengths))[:, None],) * 3})

        def step(engine, batches, names, notice):
            compute(batches)
            clock.now += 1.0
            made[0] += 1
            return {"loss": [0.0] * len(lengths), loop.STOP: [0.0] * len(lengths)}

        monkeypatch.setattr(loop, "_step", step)
        learners = [Learner(steps, 1.0, Memory(clock, saved, number), **options) for number, steps in enumerate(lengths)]
        start = {"w": (torch.zeros(1, 1),) * 3}
        arguments = {"num_slots": len(lengths), "checkpoint_every": 4, "beat": clock.beat}
        for slot, state in loop.run(Engine(), learners, feed, start, **arguments):
            assert state["w"][0].flatten().tolist() == [slot] if len(lengths) > 1 else [0]
            given.append((slot, made[0]))
            clock.now += WINDOW_S / 4  # the commit
        return clock, saved, given

    return go


def test_each_is_saved_in_its_own_turn_alone(run):
    """A learner's end costs no checkpoint of another."""
    _, saved, _ = run()
    assert sorted(saved) == sorted((number, step) for number, length in enumerate(LENGTHS) for step in range(4, length, 4))


def test_who_ends_is_given_out_when_the_others_are_saved_or_none_is_left(run):
    assert run()[2] == [(0, 8), (1, 12), *((slot, 14) for slot in range(2, 8))]


def test_many_commits_and_checkpoints_are_no_silence(run):
    """The watchdog ends a process after one window without a beat; eight checkpoints, and later six commits, take more than that."""
    clock, saved, given = run()
    assert sum(step == 4 for _, step in saved) * WINDOW_S / 4 > WINDOW_S
    assert sum(step == 14 for _, step in given) * WINDOW_S / 4 > WINDOW_S
    assert clock.silence <= WINDOW_S / 4 + 1


def test_a_part_of_a_schedule_is_given_out_and_the_rest_goes_on_from_there(run):
    _, saved, given = run(lengths=(9,), last_step=3)
    assert (saved, given) == ([], [(0, 3)])
    _, saved, given = run(lengths=(9,), begun=(3, {"w": (torch.ones(1, 1),) * 3}))
    assert (saved, given) == ([(0, 4), (0, 8)], [(0, 6)])
    parts = Learner(9, 1.0, None, last_step=3, warmup_steps=2), Learner(9, 1.0, None, warmup_steps=2)
    assert [parts[0].lr_at(step) for step in range(9)] == [parts[1].lr_at(step) for step in range(9)]


def test_the_next_step_is_made_ready_while_this_one_is_computed(run):
    """Each is fed once, in order; the stand-in for a step returns when its successor has been begun."""
    fed, taken, begun = list[list[int | None]](), list[list[int | None]](), threading.Semaphore(0)

    def feed(steps):
        fed.append(list(steps))
        begun.release()
        return [(list(steps),)]

    def compute(batches):
        taken.extend(steps for (steps,) in batches)
        for _ in range(0 if len(taken) == 5 else 2 if len(taken) == 1 else 1):  # its own, and that of the next one
            assert begun.acquire(timeout=60)

    run(lengths=(3, 5), feed=feed, compute=compute)
    assert fed == taken == [[0, 0], [1, 1], [2, 2], [None, 3], [None, 4]]


def test_what_the_feed_raises_is_raised_by_the_loop(run):
    def feed(steps):
        if steps == [2]:
            raise DataError("row 7 is gone", "instances", "run again")
        return []

    with pytest.raises(DataError, match="row 7"):
        run(lengths=(5,), feed=feed)
