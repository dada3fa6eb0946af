"""What the driver and its groups share while a fleet trains, as one Ray actor: the queue of packs, and what the groups report."""

from __future__ import annotations

from collections.abc import Iterable

from thinkrec.events import Event
from thinkrec.train.fleet.queue import Pack, Queue


class FleetActor(Queue):
    """The fleet's queue with a letter box; pure Python, so it needs no Ray to be tested."""

    def __init__(self, packs: Iterable[Pack]) -> None:
        super().__init__(packs)
        self._reported: list[Event] = []

    def report(self, event: Event) -> None:
        """Leave an event for the driver; groups do not wait for it."""
        self._reported.append(event)

    def drain(self) -> list[Event]:
        """What was reported since the last call, in order."""
        events, self._reported = self._reported, []
        return events
