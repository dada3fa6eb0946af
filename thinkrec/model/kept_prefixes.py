"""Keys and values of prefixes that were computed lately: what is asked after the same prefix again need not compute it again."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from thinkrec.model.prefix_tree import Layers, PrefixStates


@dataclass
class _Kept:
    layers: Layers
    num_bytes: int
    used_at: float


class KeptPrefixes:
    """The states of prefixes by name, of one model, on its device: at most `max_bytes`, and who was not asked for longest leaves first.

    One that was not asked for in `max_age_s` seconds leaves when the next is looked for. Not for two threads at once.
    """

    def __init__(self, max_bytes: int, max_age_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_bytes, self._max_age_s, self._clock = max_bytes, max_age_s, clock
        self._kept: OrderedDict[object, _Kept] = OrderedDict()  # the one that was used last stands last
        self.num_bytes = self.num_found = self.num_computed = 0

    def find(self, name: object) -> PrefixStates:
        """The states of this prefix as they are kept, else empty ones that a pass fills in."""
        while self._kept and self._clock() - next(iter(self._kept.values())).used_at > self._max_age_s:
            self._drop_first()
        kept = self._kept.get(name)
        if kept is None:
            self.num_computed += 1
            return PrefixStates(name, {}, is_known=False)
        self.num_found += 1
        kept.used_at = self._clock()
        self._kept.move_to_end(name)
        return PrefixStates(name, kept.layers, is_known=True)

    def keep(self, states: Iterable[PrefixStates]) -> None:
        """Keep those that a pass has filled in."""
        for one in states:
            if not one.is_known and one.name not in self._kept:
                num_bytes = sum(tensor.nbytes for pair in one.layers.values() for tensor in pair)
                self._kept[one.name] = _Kept(one.layers, num_bytes, self._clock())
                self.num_bytes += num_bytes
        while self.num_bytes > self._max_bytes:
            self._drop_first()

    def _drop_first(self) -> None:
        _, gone = self._kept.popitem(last=False)
        self.num_bytes -= gone.num_bytes
