"""The log as encoders see it: integers for whom and what train knows, -1 for all others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from thinkrec.artefacts.ingest import TRAIN
from thinkrec.data.interactions import Interactions, Policy
from thinkrec.encoder.factors import Ratings

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Log:
    """Every row, sorted by (user, time); `position` means an index into these columns."""

    user: Ints  # place in user_ids, or -1
    item: Ints  # place in item_ids, or -1
    label: NDArray[np.float32]
    split: NDArray[np.int8]
    row: Ints
    first: Ints  # position of the same user's first row
    user_ids: list[str]  # of train, sorted
    item_ids: list[str]

    @classmethod
    def load(cls, ingest: Path) -> Log:
        """Read an ingest artefact."""
        data = Interactions.load(ingest)
        train = data.split == TRAIN
        users, items = _known(data.user_ids, data.user[train]), _known(data.item_ids, data.item[train])
        return cls(
            user=_places(users, len(data.user_ids))[data.user],
            item=_places(items, len(data.item_ids))[data.item],
            label=data.label.astype(np.float32),
            split=data.split,
            row=data.row,
            first=data.offsets[data.user],
            user_ids=[data.user_ids[user] for user in users],
            item_ids=[data.item_ids[item] for item in items],
        )

    def positions(self, split: int) -> Ints:
        """The rows of a split, in the order of the data set."""
        found = np.flatnonzero(self.split == split)
        return found[np.argsort(self.row[found])]

    def ratings(self, positions: Ints) -> Ratings:
        """These rows, each by itself."""
        return Ratings(self.user[positions], self.item[positions], self.label[positions])

    def visible(self, policy: Policy, last: int) -> Ints:
        """The rows a history may hold: all those of the splits up to `last`, or, "train_only", those of train."""
        return np.flatnonzero(self.split <= (last if policy == "rolling" else TRAIN))


def windows(visible: Ints, first: Ints, end: Ints, length: int) -> Ints:
    """(n, length): the last `length` visible positions in first[j]:end[j], the oldest first, filled up with -1."""
    low, high = np.searchsorted(visible, first), np.searchsorted(visible, end)
    places = np.maximum(low, high - length)[:, None] + np.arange(length)
    return np.where(places < high[:, None], visible[np.minimum(places, len(visible) - 1)], -1)


def _known(ids: list[str], codes: NDArray[np.int32]) -> Ints:
    """The codes that occur, sorted by their ids."""
    return np.array(sorted(np.unique(codes).tolist(), key=ids.__getitem__), np.int64)


def _places(known: Ints, num_ids: int) -> Ints:
    """code -> place among the known codes, or -1."""
    places = np.full(num_ids, -1)
    places[known] = np.arange(len(known))
    return places
