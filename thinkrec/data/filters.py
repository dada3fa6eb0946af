"""Which rows of a sound log a run takes: a window of time, one row a user and item, active users and items. Pure and counted."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from thinkrec.config.data import DataSection
from thinkrec.data.split import millis
from thinkrec.errors import DataError

WINDOW, REPEATS, FEW = "outside data.since and data.before", "repeats of a user and item", "users and items with few rows"


def select(rows: pl.DataFrame, settings: DataSection) -> tuple[pl.DataFrame, dict[str, int]]:
    """All rows of some users (user_id, item, ts, row) -> those that may stay whatever the others are, and how many each rule left out.

    A window of time, then of each user and item the first or last row in time (D26).
    """
    within = rows
    if settings.since:
        within = within.filter(pl.col("ts") >= millis(settings.since, "data.since"))
    if settings.before:
        within = within.filter(pl.col("ts") < millis(settings.before, "data.before"))
    once = within.sort("user_id", "ts", "row")
    if settings.repeats != "keep":
        once = once.unique(["user_id", "item"], keep=settings.repeats, maintain_order=True)
    return once, {WINDOW: len(rows) - len(within), REPEATS: len(within) - len(once)}


def active(rows: pl.DataFrame, num_by_item: NDArray[np.int64], min_rows: int) -> tuple[pl.DataFrame, dict[str, int]]:
    """Those of all rows of some users whose user and item have at least `min_rows` rows, and how many have not.

    `num_by_item` counts all users' rows before anybody leaves: fewer may remain (D27).
    """
    users = pl.len().over("user_id") >= min_rows
    kept = rows.filter(users & pl.Series(num_by_item[rows["item"].to_numpy()] >= min_rows))
    return kept, {FEW: len(rows) - len(kept)}


def refuse_nothing_left(num_rows: int, left_out: Mapping[str, int]) -> None:
    """Raise DataError where no row stays."""
    if not num_rows:
        asked = "data.since, data.before, data.repeats, data.min_rows"
        raise DataError(f"no row is left: {dict(left_out)}", asked, "ask for less")
