"""How many rows of either class hold each score: what pooled AUC and calibration need to know about all rows at once.

Such counts add up over parts of the rows, in any order and grouping, so billions of rows can be counted apart. They are exact up to
MAX_CELLS distinct scores. Above that, scores that differ only in their last bits share a cell and count as tied; `auc_error` bounds what
that can move, and the width of the cells depends on the scores alone, never on how they were parted.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

Array = NDArray[np.float64]

MAX_CELLS = 2**24  # 400 MB of counts
MAGNITUDE = 2**63 - 1  # every bit of a float64 but the sign


def count_scores(frame: pl.DataFrame) -> pl.DataFrame:
    """Counts (level, cell, num_pos, num_neg) of a table (score float64, label in {0, 1}), rising by score."""
    label, cells = frame["label"].cast(pl.Int64), _cells(frame["score"].to_numpy())
    return merge_counts(pl.DataFrame({"level": np.zeros_like(cells), "cell": cells, "num_pos": label, "num_neg": 1 - label}))


def merge_counts(counts: pl.DataFrame) -> pl.DataFrame:
    """The sum of counts of parts that stand below one another; `level` is the number of low bits left out, the least that will do."""
    level = _level(counts)
    counts = _at_level(counts, level)
    if counts.height <= MAX_CELLS:
        return counts
    cells = counts["cell"].to_numpy()
    joins_after = _bit_length(cells[1:] ^ cells[:-1])  # so many bits fewer, and two neighbours share a cell
    return _at_level(counts, level + int(np.partition(joins_after, -MAX_CELLS)[-MAX_CELLS]))


def placements(frame: pl.DataFrame, counts: pl.DataFrame) -> Array:
    """For each row the share of all rows of the other class that it is ordered rightly against, a tie one half; 0 without another class.

    counts: of these rows, or of a larger table that holds them.
    """
    pos, neg = counts["num_pos"].to_numpy(), counts["num_neg"].to_numpy()
    place = np.searchsorted(counts["cell"].to_numpy(), _cells(frame["score"].to_numpy()) >> _level(counts))
    below = (np.cumsum(neg) - neg / 2) / max(neg.sum(), 1)
    above = (pos.sum() - np.cumsum(pos) + pos / 2) / max(pos.sum(), 1)
    found: Array = np.where(frame["label"].to_numpy() == 1, below[place], above[place])
    return found


def auc_error(counts: pl.DataFrame) -> float:
    """How far pooled AUC from these counts can lie from that of the scores themselves; 0 while every cell is a single score."""
    if not _level(counts):
        return 0.0
    pos, neg = (counts[name].to_numpy().astype(np.float64) for name in ("num_pos", "num_neg"))
    return float(pos @ neg / (2 * max(pos.sum() * neg.sum(), 1)))


def score_values(counts: pl.DataFrame) -> Array:
    """The score of each cell; the middle of a cell of several."""
    level = _level(counts)
    cells = (counts["cell"].to_numpy() << level) + (1 << level) // 2
    return np.where(cells < 0, cells ^ MAGNITUDE, cells).view(np.float64)


def _cells(scores: NDArray[np.floating]) -> NDArray[np.int64]:
    """Integers in the order of the scores, equal where they are equal: the bits of a float64, those of negative numbers turned about."""
    bits = (scores.astype(np.float64) + 0.0).view(np.int64)  # + 0.0 makes one zero of two
    return np.where(bits < 0, bits ^ MAGNITUDE, bits)


def _level(counts: pl.DataFrame) -> int:
    return int(counts.select(pl.col("level").max()).item() or 0)


def _at_level(counts: pl.DataFrame, level: int) -> pl.DataFrame:
    cells = counts["cell"].to_numpy() >> (level - counts["level"].to_numpy())
    found = counts.with_columns(level=pl.lit(level, pl.Int64), cell=pl.Series(cells))
    return found.group_by("level", "cell").agg(pl.col("num_pos", "num_neg").sum()).sort("cell")


def _bit_length(numbers: NDArray[np.int64]) -> NDArray[np.int32]:
    bits = numbers.view(np.uint64)
    high, low = bits >> np.uint64(32), bits & np.uint64(2**32 - 1)  # a float64 holds 32 bits exactly, but not 64
    found: NDArray[np.int32] = np.where(high > 0, 32 + np.frexp(high)[1], np.frexp(low)[1])
    return found
