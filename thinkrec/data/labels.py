"""What a like is (docs/method.md 1): a rule over ratings, or every row where people only came, with dislikes drawn beside them.

Rules that look at a user's own rows want all of them; what is drawn for a row is a function of the seed and the row alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from thinkrec.config.data import DataSection
from thinkrec.data.readers.source import FILE_BITS
from thinkrec.errors import DataError

Ints = NDArray[np.int64]
MAX_ROUNDS = 50  # of drawing again what the user has met or was given before
PLACES_A_NEGATIVE = 32  # row numbers kept for the rows drawn beside one, times their mean: more are never drawn


@dataclass(frozen=True)
class Births:
    """When each item came up: `item` in the order of its first row (ties by id), `ts` of that row, `place` of each item in that order."""

    item: NDArray[np.int32]
    ts: Ints
    place: Ints

    @classmethod
    def of(cls, first_ts: Ints, item_ids: pl.Series) -> Births:
        """From the time of every item's first row; items without rows have the largest int64."""
        order = pl.DataFrame({"ts": first_ts, "id": item_ids}).with_row_index("item").sort("ts", "id")["item"].to_numpy()
        item = order[: int((first_ts < np.iinfo(np.int64).max).sum())].astype(np.int32)
        place = np.full(len(first_ts), -1)
        place[item] = np.arange(len(item))
        return cls(item, first_ts[item], place)


def highest_rating(ratings: pl.Series) -> float:
    """The highest rating that is a number; minus infinity where there is none."""
    highest = ratings.filter(ratings.is_finite()).max()
    return float(highest) if isinstance(highest, float) else -np.inf


def label(columns: list[str], settings: DataSection, highest: float) -> pl.Expr:
    """The given label; where there is none, what `data.label_rule` says of the row; null where the rule needs a rating and has none.

    `columns` are those of the rows, `highest` is the log's highest rating.
    """
    given = pl.col("label") if "label" in columns else pl.lit(None)
    return pl.coalesce(given.cast(pl.Int8), _by_rule(columns, settings, highest).cast(pl.Int8))


def _by_rule(columns: list[str], settings: DataSection, highest: float) -> pl.Expr:
    if settings.label_rule == "implicit":
        return pl.lit(1)
    if "rating" not in columns:
        return pl.lit(None)
    rating = pl.when(pl.col("rating").is_finite()).then(pl.col("rating"))
    match settings.label_rule:
        case "user_median":
            return rating >= rating.median().over("user_id")
        case "top_box":
            return rating == highest
        case _:
            return rating >= settings.like_threshold


def with_negatives(rows: pl.DataFrame, births: Births, mean_each: int, seed: int) -> tuple[pl.DataFrame, int]:
    """Rows (spill.ROWS) in order of (user, ts, row), each behind some rows of its user and time with label 0; and how many are missing.

    Their items are drawn evenly from those that had a row by then and that the user never meets, before or after, no item twice for one
    user; where none can be found, the row is missing. Rows are numbered anew, in their old order.

    How many stand behind a row is geometric with mean `mean_each`: along a user each label is then a like with the same chance whatever
    came before. With a fixed number a model could count to the next like.
    """
    stride = 1 << (PLACES_A_NEGATIVE * mean_each - 1).bit_length()
    row = rows["row"].to_numpy()
    within, file = row & ((1 << FILE_BITS) - 1), row >> FILE_BITS << FILE_BITS
    if (within >= (1 << FILE_BITS) // stride).any():
        raise DataError("a file has too many rows to number what is drawn beside them", "data.num_negatives", "write it as several files")
    lengths = np.log(1 - _uniform(seed, row, np.zeros_like(row))) / np.log(mean_each / (1 + mean_each))
    owner = np.repeat(np.arange(len(row)), np.minimum(lengths.astype(np.int64), stride - 1))
    place = np.arange(len(owner)) - np.searchsorted(owner, owner)
    user, num_items = (rows["user_id"].rle_id()).to_numpy().astype(np.int64), len(births.item)
    met = np.unique(user * num_items + births.place[rows["item"].to_numpy()])
    num_known = np.searchsorted(births.ts, rows["ts"].to_numpy(), side="right")
    drawn = _draw(user[owner] * num_items, num_known[owner], met, seed, row[owner], place)
    found = drawn >= 0
    number = file + within * stride
    others = rows[owner[found]].with_columns(
        item=births.item[drawn[found]],
        label=pl.lit(0, pl.Int8),
        rating=pl.lit(None, pl.Float32),
        row=pl.Series(number[owner[found]] + place[found]),
    )
    both = pl.concat([rows.with_columns(row=pl.Series(number + stride - 1)), others])
    return both.sort("user_id", "ts", "row"), int((~found).sum())


def _draw(base: Ints, num_known: Ints, met: Ints, seed: int, row: Ints, place: Ints) -> Ints:
    """For each place an item below `num_known` whose pair (`base` + item) is neither in `met` nor drawn before; -1 where none is found."""
    drawn, pending = np.full(len(base), -1), np.arange(len(base))
    for round_ in range(MAX_ROUNDS):
        share = _uniform(seed, row[pending], 1 + place[pending] * MAX_ROUNDS + round_)
        item = (share * num_known[pending]).astype(np.int64)
        pair = base[pending] + item
        fresh = np.zeros(len(pending), bool)
        fresh[np.unique(pair, return_index=True)[1]] = True
        fresh &= ~np.isin(pair, met)
        drawn[pending[fresh]] = item[fresh]
        met, pending = np.union1d(met, pair[fresh]), pending[~fresh]
        if not len(pending):
            break
    return drawn


def _uniform(seed: int, row: Ints, draw: Ints) -> NDArray[np.float64]:
    """Numbers in [0, 1) that are a function of seed, row and draw: whoever draws, in whatever order, draws the same."""
    mixed = _mix(_mix(np.uint64(seed % 2**64) + row.astype(np.uint64)) + draw.astype(np.uint64))
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64 (Steele, Lea and Flood 2014), on arrays, where overflow is meant."""
    value = value * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0x632BE59BD9B4E019)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
