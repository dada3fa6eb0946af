"""The letter box of a fleet: every event once, in order."""

from __future__ import annotations

from thinkrec.events import ExpertDone, PackStarted
from thinkrec.train.fleet.actor import FleetActor
from thinkrec.train.fleet.queue import Pack


def test_what_is_reported_is_drained_once_and_in_order():
    desk = FleetActor([Pack((0,), (1.0,))])
    events = [PackStarted(0, (0,), (9,), (1.0,)), ExpertDone(0, 0, 9)]
    for event in events:
        desk.report(event)
    assert desk.drain() == events
    assert desk.drain() == []
    assert desk.take(0).experts == (0,)  # it is the queue, too
