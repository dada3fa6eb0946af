"""Counted priors as words: how many like an item, how many know it, how much a user liked so far, in all and among such items.

An item's numbers come from train rows of the OTHER user buckets, so the label a row asks about is never among them; the same rule holds
for test rows. A user's numbers come from earlier rows alone, by the history policy (docs/method.md 14).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from thinkrec.artefacts.ingest import TRAIN, bucket_of, read_counts
from thinkrec.data.counts import Log, category_affinity, history_counts
from thinkrec.data.interactions import Interactions

STEPS = 20  # rates are told in twentieths
STRENGTH = 5.0  # pseudo rows at the mean rate
KNOWN_TO = ((1, "nobody"), (5, "few"), (20, "some"), (80, "many"))  # below this many rows


class Counted(NamedTuple):
    """What is counted for one row: whose bucket its item words leave out, and the user's two rates before it, in twentieths."""

    bucket: int
    user_rate: int  # share of likes
    taste: int  # that share among items with the keywords of the row's item


@dataclass(frozen=True)
class Priors:
    """`rate` (num_items, num_buckets) int8 in twentieths and `count` (num_items, num_buckets), both without that bucket's users."""

    rate: NDArray[np.int8]
    count: NDArray[np.int64]
    user_bucket: NDArray[np.int64]  # bucket of each loaded user
    user_rate: NDArray[np.int8]  # of each position
    taste: NDArray[np.int8]

    @classmethod
    def load(
        cls,
        folder: Path,
        data: Interactions,
        keywords: Sequence[Sequence[str]],
        num_buckets: int,
        rolling: bool,
        end: NDArray[np.int64] | None = None,
    ) -> Priors:
        """Count from an ingest artefact for the users in `data`; `keywords` of each item in the order of items.parquet.

        `end`: the position before which each row's history ends, if that is not its own.
        """
        import polars as pl

        counts = read_counts(folder)
        item = counts["item_id"].replace_strict(pl.Series(data.item_ids), pl.Series(np.arange(len(data.item_ids)))).to_numpy()
        rows, likes = np.zeros((2, len(data.item_ids), num_buckets))
        rows[item, counts["bucket"]], likes[item, counts["bucket"]] = counts["num_rows"], counts["num_likes"]
        other_rows, other_likes = rows.sum(1, keepdims=True) - rows, likes.sum(1, keepdims=True) - likes
        mean = other_likes.sum(0) / np.maximum(1, other_rows.sum(0))  # of the other buckets: the smoothing must not tell the label either
        buckets = np.array([bucket_of(user, num_buckets) for user in data.user_ids], dtype=np.int64)
        rates = _rate(other_likes, other_rows, mean)
        train = data.split == TRAIN
        visible = data.row >= 0 if rolling else train  # what is only asked about has no number
        log = Log(data.user, data.item, data.label, train, visible, _pairs(keywords), end)
        own = _rate(*history_counts(log), mean[buckets[data.user]])
        taste = np.clip(own + category_affinity(log, own), 0, 1)
        return cls(_twentieths(rates), other_rows.astype(np.int64), buckets, _twentieths(own), _twentieths(taste))

    def at(self, position: int, user: int) -> Counted:
        """What is counted for the row at `position`, which is `user`'s."""
        return Counted(int(self.user_bucket[user]), int(self.user_rate[position]), int(self.taste[position]))

    def rate_words(self, item: int, bucket: int) -> str:
        return f"{self.rate[item, bucket]} of {STEPS} like it"

    def count_words(self, item: int, bucket: int) -> str:
        count = self.count[item, bucket]
        return f"known to {next((word for limit, word in KNOWN_TO if count < limit), 'most')}"


def phrases() -> list[str]:
    """Every phrase the priors may use about an item."""
    words = [word for _, word in KNOWN_TO] + ["most"]
    return [*(f"{step} of {STEPS} like it" for step in range(STEPS + 1)), *(f"known to {word}" for word in words)]


def _pairs(keywords: Sequence[Sequence[str]]) -> NDArray[np.int64]:
    """(item, keyword) pairs, sorted by item."""
    code: dict[str, int] = {}
    pairs = [(item, code.setdefault(word, len(code))) for item, words in enumerate(keywords) for word in words]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def _rate(likes: NDArray[np.float64], rows: NDArray[np.float64], mean: NDArray[np.float64]) -> NDArray[np.float64]:
    return (likes + STRENGTH * mean) / (rows + STRENGTH)


def _twentieths(rate: NDArray[np.float64]) -> NDArray[np.int8]:
    return np.rint(STEPS * rate).astype(np.int8)
