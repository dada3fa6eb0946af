"""Which rows of a sound log a run takes: a window of time, one row a user and item, active users and items. Pure and counted."""

from __future__ import annotations

from typing import Literal

import polars as pl

from thinkrec.config.data import DataSection
from thinkrec.data.split import millis
from thinkrec.errors import DataError


def select(rows: pl.DataFrame, settings: DataSection) -> tuple[pl.DataFrame, dict[str, int]]:
    """Interactions in order of `row` -> those asked for, and how many each rule left out; raises DataError if none stay."""
    within = _window(rows, settings.since, settings.before)
    once = _once(within, settings.repeats)
    kept = _active(once, settings.min_rows)
    numbers = {
        "outside data.since and data.before": len(rows) - len(within),
        "repeats of a user and item": len(within) - len(once),
        "users and items with few rows": len(once) - len(kept),
    }
    left_out = {rule: number for rule, number in numbers.items() if number}
    if kept.is_empty():
        raise DataError(f"no row is left: {left_out}", "data.since, data.before, data.repeats, data.min_rows", "ask for less")
    return kept, left_out


def _window(rows: pl.DataFrame, since: str, before: str) -> pl.DataFrame:
    if since:
        rows = rows.filter(pl.col("ts") >= millis(since, "data.since"))
    if before:
        rows = rows.filter(pl.col("ts") < millis(before, "data.before"))
    return rows


def _once(rows: pl.DataFrame, repeats: Literal["keep", "first", "last"]) -> pl.DataFrame:
    """The first or last row in time of each user and item (D26)."""
    if repeats == "keep":
        return rows
    once = rows.sort("ts", "row").unique(["user_id", "item_id"], keep=repeats, maintain_order=True)
    return once.sort("row")


def _active(rows: pl.DataFrame, min_rows: int) -> pl.DataFrame:
    """Users and items with at least `min_rows` rows, both counted before either leaves: fewer may remain (D27)."""
    if not min_rows:
        return rows
    return rows.filter(pl.all_horizontal(pl.len().over(name) >= min_rows for name in ("user_id", "item_id")))
