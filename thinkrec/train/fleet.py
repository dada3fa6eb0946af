"""The fleet's queue in pure Python: which group trains which expert next. No Ray here, so plans and simulators run the same code.

Experts wait longest first, by the number of tokens or rows they cost; a free group takes the next one. What a group held when it died is
given to it again, so nothing is lost and nothing is trained twice.
"""

from __future__ import annotations

from collections.abc import Mapping


class Queue:
    """Experts waiting, in flight by group, and done."""

    def __init__(self, costs: Mapping[int, float]) -> None:
        self._waiting = sorted(costs, key=lambda expert: (costs[expert], -expert))
        self._in_flight: dict[int, int] = {}
        self.done: list[int] = []

    def take(self, group: int) -> int | None:
        """The next expert for this group, or the one it had not finished; None when the work is out."""
        if group not in self._in_flight:
            if not self._waiting:
                return None
            self._in_flight[group] = self._waiting.pop()
        return self._in_flight[group]

    def finish(self, group: int) -> None:
        """The group's expert is committed."""
        self.done.append(self._in_flight.pop(group))

    def abandon(self, group: int) -> None:
        """The group is gone for good: another may take its expert."""
        if group in self._in_flight:
            self._waiting.append(self._in_flight.pop(group))
