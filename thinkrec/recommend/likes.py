"""What users liked, oldest first: what baselines of lists are made from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from thinkrec.artefacts.ingest import TRAIN, read_num_buckets
from thinkrec.data.interactions import Interactions

Ints = NDArray[np.integer]


@dataclass(frozen=True)
class Likes:
    """Items (n,) as indices; those of user u are offsets[u]:offsets[u + 1]."""

    item: Ints
    offsets: Ints

    @classmethod
    def of(cls, log: Interactions, only_train: bool = False) -> Likes:
        """The likes in these rows, or in those of train."""
        chosen = (log.label == 1) & ((log.split == TRAIN) | (not only_train))
        return cls(log.item[chosen], np.append(0, np.cumsum(chosen))[log.offsets])

    def last(self, num: int) -> Likes:
        """The last `num` of each user."""
        sizes = np.diff(self.offsets)
        from_end = np.repeat(self.offsets[1:], sizes) - np.arange(len(self.item))
        return Likes(self.item[from_end <= num], np.append(0, np.cumsum(np.minimum(sizes, num))))


def train_likes(ingest: Path) -> Iterator[Likes]:
    """Of all users, a bucket of them at a time."""
    for bucket in range(read_num_buckets(ingest)):
        yield Likes.of(Interactions.load(ingest, buckets=[bucket]), only_train=True)
