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

from thinkrec.artefacts.ingest import TRAIN, bucket_of, read_counts, read_items, read_num_buckets
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
class UserPriors:
    """What is counted of the users of a log, in twentieths."""

    bucket: NDArray[np.int64]  # of each user
    rate: NDArray[np.int8]  # of each position
    taste: NDArray[np.int8]

    def at(self, position: int, user: int) -> Counted:
        """What is counted for the row at `position`, which is `user`'s."""
        return Counted(int(self.bucket[user]), int(self.rate[position]), int(self.taste[position]))


@dataclass(frozen=True)
class ItemPriors:
    """What is counted of the catalogue, whoever is asked about; every number leaves out the users of its bucket."""

    rate: NDArray[np.int8]  # (num_items, num_buckets) in twentieths
    count: NDArray[np.int64]  # (num_items, num_buckets) rows
    mean: NDArray[np.float64]  # (num_buckets,) share of likes of all items
    keywords: NDArray[np.int64]  # (item, keyword) pairs, sorted by item

    @classmethod
    def load(cls, folder: Path, keywords: Sequence[Sequence[str]]) -> ItemPriors:
        """Count from an ingest artefact; `keywords` of each item in the order of items.parquet."""
        import polars as pl

        counts, item_ids, num_buckets = read_counts(folder), read_items(folder, ["item_id"])["item_id"], read_num_buckets(folder)
        item = counts["item_id"].replace_strict(item_ids, pl.Series(np.arange(len(item_ids)))).to_numpy()
        rows, likes = np.zeros((2, len(item_ids), num_buckets))
        rows[item, counts["bucket"]], likes[item, counts["bucket"]] = counts["num_rows"], counts["num_likes"]
        other_rows, other_likes = rows.sum(1, keepdims=True) - rows, likes.sum(1, keepdims=True) - likes
        mean = other_likes.sum(0) / np.maximum(1, other_rows.sum(0))  # of the other buckets: the smoothing must not tell the label either
        rates = _rate(other_likes, other_rows, mean)
        return cls(_twentieths(rates), other_rows.astype(np.int64), mean, _pairs(keywords))

    def of_users(self, data: Interactions, rolling: bool, end: NDArray[np.int64] | None = None) -> UserPriors:
        """Count for the users in `data`; `end`: the position before which each row's history ends, if that is not its own."""
        buckets = np.array([bucket_of(user, len(self.mean)) for user in data.user_ids], dtype=np.int64)
        train = data.split == TRAIN
        visible = data.row >= 0 if rolling else train  # what is only asked about has no number
        log = Log(data.user, data.item, data.label, train, visible, self.keywords, end)
        own = _rate(*history_counts(log), self.mean[buckets[data.user]])
        taste = np.clip(own + category_affinity(log, own), 0, 1)
        return UserPriors(buckets, _twentieths(own), _twentieths(taste))

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
