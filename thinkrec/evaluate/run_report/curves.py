"""AUC along the length of the user's history and the popularity of the item."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from thinkrec.evaluate.metrics.groups import auc_by
from thinkrec.evaluate.run_report.schema import CurvePoint

CURVE_COLUMNS = {"history": "num_history", "popularity": "num_item_rows"}  # what a curve runs along -> column of judged rows
NUM_GROUPS = 5


def curves(table: pl.DataFrame, names: Sequence[str], num_bootstrap: int, seed: int) -> list[CurvePoint]:
    """One point a side, group and scorer.

    Groups are fifths of the rows in order of the count; rows with equal counts stay together, so there may be fewer. `first` and `last`
    are the smallest and the largest count in the group.
    """
    found: list[CurvePoint] = []
    for side, column in CURVE_COLUMNS.items():
        for (first, last), group in auc_by(with_fifths(table, column), ["first", "last"], names, num_bootstrap, seed):
            found += [
                CurvePoint(
                    by=side,
                    group=span(first, last),
                    first=first,
                    last=last,
                    num_rows=group["num_rows"],
                    num_users=group["num_users"],
                    name=name,
                    auc=area["value"],
                    low=area["low"],
                    high=area["high"],
                )
                for name, area in group["auc"].items()
            ]
    return found


def with_fifths(table: pl.DataFrame, column: str) -> pl.DataFrame:
    """The rows with the columns first and last, the ends of their group."""
    place = (pl.col(column).rank("min") - 1) * NUM_GROUPS // table.height
    return table.with_columns(first=pl.col(column).min().over(place), last=pl.col(column).max().over(place))


def span(first: int, last: int) -> str:
    """A group by its ends."""
    return f"{first:,}" if first == last else f"{first:,} to {last:,}"
