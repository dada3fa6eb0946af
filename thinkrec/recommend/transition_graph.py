"""The two-hop graph heuristic TGH-2, a baseline of lists without anything learned (arXiv 2605.07125).

Which item is liked next after which, in train, is a graph. A list takes from the first and second ring around the user's last like, then
from those around the one before it. A ring's items are ordered by the cosine of their keywords with those of its centre, in the first ring
with half of log(1 + times) / the largest of the ring added. The paper compares embeddings of texts; keywords are what is known here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from thinkrec.recommend.likes import Likes

Ints = NDArray[np.integer]
SHARES = ((0.5, 0.1), (0.3, 0.1))  # of the list, by like (the last, the one before) and ring; the paper's 5, 1, 3, 1 of ten
TIMES_WEIGHT = 0.5
NUM_CACHED = 4096  # rings of items that are held


class TransitionGraph:
    """times: (items, items) how often the second was liked next; features: (items, keywords) unit rows."""

    def __init__(self, times: sparse.csr_array, features: sparse.csr_array) -> None:
        self._times, self._features = times, features
        self._rings_of = lru_cache(NUM_CACHED)(self._rings)

    @classmethod
    def fit(cls, parts: Iterable[Likes], keywords: Sequence[Sequence[str]]) -> TransitionGraph:
        """From the likes of all users in train, a part of the users at a time, and the keywords of every item."""
        num_items = len(keywords)
        times = sparse.csr_array((num_items, num_items), dtype=np.int64)
        for likes in parts:
            is_followed = np.ones(max(len(likes.item), 1), bool)
            is_followed[likes.offsets[1:] - 1] = False  # by the first like of another user
            first = np.flatnonzero(is_followed[: len(likes.item)])
            pairs = likes.item[first], likes.item[first + 1]
            times += sparse.csr_array((np.ones(len(first), np.int64), pairs), shape=times.shape)
        return cls(times, _features(keywords))

    def rings(self, likes: Likes, num: int) -> list[list[tuple[Ints, int]]]:
        """For each user rings of items, the best first, with how many of `num` a list takes of each; none for who likes nothing."""
        return [
            [
                (ring, round(share * num))
                for centre, shares in zip(likes.item[begin:end][::-1].tolist(), SHARES, strict=False)
                for ring, share in zip(self._rings_of(centre), shares, strict=True)
            ]
            for begin, end in pairwise(likes.offsets)
        ]

    def _rings(self, centre: int) -> tuple[Ints, Ints]:
        """The items one and two steps from an item, itself left out, each ordered."""
        next_items, times = self._row(centre)
        cosines = self._features @ self._features[[centre]].toarray()[0]
        near = cosines[next_items] + TIMES_WEIGHT * np.log1p(times) / np.log1p(times.max(initial=1))
        beyond = np.unique(np.concatenate([next_items[:0], *(self._row(item)[0] for item in next_items)]))
        beyond = beyond[~np.isin(beyond, next_items) & (beyond != centre)]
        return _best(next_items, near), _best(beyond, cosines[beyond])

    def _row(self, item: int) -> tuple[Ints, Ints]:
        part = slice(*self._times.indptr[item : item + 2])
        is_other = self._times.indices[part] != item
        return self._times.indices[part][is_other], self._times.data[part][is_other]


def _best(items: Ints, scores: NDArray[np.floating]) -> Ints:
    ordered: Ints = items[np.lexsort((items, -scores))]
    return ordered


def _features(keywords: Sequence[Sequence[str]]) -> sparse.csr_array:
    words = pl.Series([sorted(set(own)) for own in keywords], dtype=pl.List(pl.String))
    code = words.explode(empty_as_null=False).rank("dense").to_numpy().astype(np.int64) - 1
    size = words.list.len().to_numpy().astype(np.int64)
    value = np.repeat(1 / np.sqrt(np.maximum(size, 1)), size)
    return sparse.csr_array((value, code, np.append(0, np.cumsum(size))), shape=(len(size), int(code.max(initial=-1)) + 1))
