"""What the driver and its groups share while a fleet trains, as one Ray actor: the queue of packs, and what the groups have to tell."""

from __future__ import annotations

from typing import Any

from thinkrec.train.fleet.queue import Queue

Event = tuple[str, dict[str, Any]]


class FleetActor(Queue):
    """The fleet's queue with a letter box; pure Python, so it needs no Ray to be tested."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._told: list[Event] = []

    def tell(self, event: str, fields: dict[str, Any]) -> None:
        """Leave an event for the driver; groups do not wait for it."""
        self._told.append((event, fields))

    def drain(self) -> list[Event]:
        """What was told since the last call, in order."""
        told, self._told = self._told, []
        return told
