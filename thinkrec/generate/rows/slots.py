"""Who may be with an engine when: calls come side by side, and one that may kill the engine comes alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock, Semaphore


class Turns:
    """So many places; a call takes one of them, or all."""

    def __init__(self, num_places: int) -> None:
        self._num_places, self._free, self._queue = num_places, Semaphore(num_places), Lock()

    @contextmanager
    def taken(self, alone: bool) -> Iterator[None]:
        """Wait for a place, or until all are free; who comes later waits behind."""
        num_places = self._num_places if alone else 1
        with self._queue:
            for _ in range(num_places):
                self._free.acquire()
        try:
            yield
        finally:
            self._free.release(num_places)
