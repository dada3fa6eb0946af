"""The letter box of a fleet: every event once, in order."""

from __future__ import annotations

from thinkrec.train.fleet.actor import FleetActor
from thinkrec.train.fleet.queue import Pack


def test_what_is_told_is_drained_once_and_in_order():
    desk = FleetActor([Pack((0,), (1.0,))])
    desk.tell("pack started", {"group": 0})
    desk.tell("expert step", {"expert": 0})
    assert [event for event, _ in desk.drain()] == ["pack started", "expert step"]
    assert desk.drain() == []
    assert desk.take(0).experts == (0,)  # it is the queue, too
