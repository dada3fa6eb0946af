"""Counted priors as words: how many like an item, how many know it, how much of what a user rated they liked (method.md 14).

An item's numbers come from train rows of the OTHER user buckets, so the label a row asks about is never among them; the same rule holds
for test rows. A user's numbers come from earlier rows alone, by the history policy.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from thinkrec.data.history import TRAIN, Interactions
from thinkrec.data.schema import bucket_of

STEPS = 20  # rates are told in twentieths
STRENGTH = 5.0  # pseudo rows at the mean rate
KNOWN_TO = ((1, "nobody"), (5, "few"), (20, "some"), (80, "many"))  # below this many rows


@dataclass(frozen=True)
class Priors:
    """`rate` (num_items, num_buckets) int8 in twentieths and `count` (num_items, num_buckets), both without that bucket's users."""

    rate: NDArray[np.int8]
    count: NDArray[np.int64]
    user_bucket: NDArray[np.int64]  # bucket of each loaded user
    user_rate: NDArray[np.int8]  # for each position, the user's own like share before it, in twentieths

    @classmethod
    def load(cls, folder: Path, data: Interactions, num_buckets: int, rolling: bool) -> Priors:
        """Count from an ingest artefact for the users in `data`."""
        counts = pl.read_parquet(folder / "counts.parquet")
        item = counts["item_id"].replace_strict(pl.Series(data.item_ids), pl.Series(np.arange(len(data.item_ids)))).to_numpy()
        rows, likes = np.zeros((2, len(data.item_ids), num_buckets))
        rows[item, counts["bucket"]], likes[item, counts["bucket"]] = counts["num_rows"], counts["num_likes"]
        other_rows, other_likes = rows.sum(1, keepdims=True) - rows, likes.sum(1, keepdims=True) - likes
        mean = other_likes.sum(0) / np.maximum(1, other_rows.sum(0))  # of the other buckets: the smoothing must not tell the label either
        buckets = np.array([bucket_of(user, num_buckets) for user in data.user_ids], dtype=np.int64)
        return cls(
            _twentieths(other_likes, other_rows, mean), other_rows.astype(np.int64), buckets, _user_rates(data, mean[buckets], rolling)
        )

    def rate_words(self, item: int, bucket: int) -> str:
        return f"{self.rate[item, bucket]} of {STEPS} like it"

    def count_words(self, item: int, bucket: int) -> str:
        count = self.count[item, bucket]
        return f"known to {next((word for limit, word in KNOWN_TO if count < limit), 'most')}"


def phrases() -> list[str]:
    """Every phrase the priors may use about an item."""
    words = [word for _, word in KNOWN_TO] + ["most"]
    return [*(f"{step} of {STEPS} like it" for step in range(STEPS + 1)), *(f"known to {word}" for word in words)]


def _user_rates(data: Interactions, mean: NDArray[np.float64], rolling: bool) -> NDArray[np.int8]:
    counted = np.ones(len(data)) if rolling else (data.split == TRAIN).astype(float)
    starts = data.offsets[data.user]
    rows, likes = (np.concatenate([[0.0], np.cumsum(column)]) for column in (counted, counted * data.label))
    at = np.arange(len(data))
    return _twentieths(likes[at] - likes[starts], rows[at] - rows[starts], mean[data.user])


def _twentieths(likes: NDArray[np.float64], rows: NDArray[np.float64], mean: NDArray[np.float64]) -> NDArray[np.int8]:
    return np.rint(STEPS * (likes + STRENGTH * mean) / (rows + STRENGTH)).astype(np.int8)
