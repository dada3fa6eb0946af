"""What users did, as ragged columns, and how a long history is cut into windows that a dense solve can hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]

SESSION_S = 3600.0  # a longer pause begins a session


@dataclass(frozen=True)
class Histories:
    """Rows that a history may show, oldest first; those of history h are `offsets[h]:offsets[h + 1]`."""

    item: Ints
    label: Ints  # 1 = like
    seconds: Floats
    offsets: Ints
    fold: Ints  # of each history's user

    def __len__(self) -> int:
        return len(self.fold)

    def between(self, first: int, end: int) -> Histories:
        """Histories `first:end` alone."""
        rows = slice(self.offsets[first], self.offsets[end])
        offsets = self.offsets[first : end + 1] - self.offsets[first]
        return Histories(self.item[rows], self.label[rows], self.seconds[rows], offsets, self.fold[first:end])

    @cached_property
    def session(self) -> Ints:
        """For each row the place in its history at which the row's session begins."""
        place = np.arange(len(self.item)) - np.repeat(self.offsets[:-1], np.diff(self.offsets))
        begins = (place == 0) | (np.diff(self.seconds, prepend=0.0) > SESSION_S)
        return place[np.maximum.accumulate(np.where(begins, np.arange(len(place)), 0))]


@dataclass(frozen=True)
class Queries:
    """Items that may be liked, as aligned columns: by whom, when, and how many rows of the history count as seen before."""

    history: Ints
    seen: Ints
    item: Ints
    seconds: Floats

    def __len__(self) -> int:
        return len(self.item)

    def take(self, places: slice | Ints) -> Queries:
        return Queries(self.history[places], self.seen[places], self.item[places], self.seconds[places])


@dataclass(frozen=True)
class Windows:
    """Pieces of histories, none empty: rows `first:first + length` of the columns, and the fold of their user; all (n,)."""

    first: Ints
    length: Ints
    fold: Ints

    def take(self, places: Ints) -> Windows:
        return Windows(self.first[places], self.length[places], self.fold[places])

    def batches(self, width: int, max_numbers: int) -> Iterator[Ints]:
        """Places of windows of like length, so few that (windows, length, length or `width`) holds at most `max_numbers`."""
        order = np.argsort(self.length, kind="stable")
        start = 0
        while start < len(order):
            longest = self.length[order[start:]] + 1
            fits = np.arange(1, len(longest) + 1) * longest * np.maximum(longest, width) <= max_numbers
            stop = start + max(1, int(fits.sum()))
            yield order[start:stop]
            start = stop


def cut(histories: Histories, history: Ints, seen: Ints, max_history: int) -> tuple[Windows, Ints, Ints]:
    """The windows that the moments (history, seen > 0) look at, the window of each moment, and how many rows of it are seen.

    A history of up to `max_history` rows is one window. Of a longer one the oldest half of a window is forgotten at a time, so that what is
    seen is a function of the history alone: more than half of `max_history` rows, and at most all.
    """
    half = max_history // 2
    piece = np.maximum(0, -(-(seen - max_history) // half))
    user, begin, window = distinct(history, piece * half)
    length = np.minimum(np.diff(histories.offsets)[user] - begin, max_history)
    return Windows(histories.offsets[user] + begin, length, histories.fold[user]), window, seen - piece * half


def distinct(history: Ints, place: Ints) -> tuple[Ints, Ints, Ints]:
    """The distinct pairs, in order, as two columns, and for each given pair which of them it is."""
    width = int(place.max(initial=0)) + 1
    pair, which = np.unique(history * width + place, return_inverse=True)
    return pair // width, pair % width, which
