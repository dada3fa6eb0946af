"""The joined rows seen whole and by slices: each pass of `judge.judge` over one piece of them.

A joined table has user_id, label and one column a scorer; with a train file also `cell`, `history_length` and `item_popularity`, the name
of the group a row is in. Results are long tables: slicing, group and name say what a row of them belongs to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

import polars as pl

from thinkrec.evaluate.metrics.calibration import Link, probabilities
from thinkrec.evaluate.metrics.ranking import user_table
from thinkrec.evaluate.metrics.score_counts import MAX_CELLS, count_scores, merge_counts

ALL = "all"
Slicing = Literal["cell", "history_length", "item_popularity"]
EDGES = (0, 1, 5, 20, 100, 500)  # train rows of a user or an item
SPANS = ("0", "1 to 4", "5 to 19", "20 to 99", "100 to 499", "500 and more")
SLICINGS: dict[Slicing, tuple[str, ...]] = {
    "cell": tuple(f"user {user}, item {item}" for user in ("seen", "unseen") for item in ("seen", "unseen")),
    "history_length": SPANS,
    "item_popularity": SPANS,
}
SLICE_KEYS = ("slicing", "group", "name")


def slice_columns(num_user_rows: pl.Expr, num_item_rows: pl.Expr) -> dict[str, pl.Expr]:
    """The slicing columns, from how many train rows the user and the item of a row have."""

    def seen(number: pl.Expr) -> pl.Expr:
        return pl.when(number > 0).then(pl.lit("seen")).otherwise(pl.lit("unseen"))

    def span(number: pl.Expr) -> pl.Expr:
        return number.cut(EDGES[1:], labels=SPANS, left_closed=True).cast(pl.String)

    cell = pl.format("user {}, item {}", seen(num_user_rows), seen(num_item_rows))
    return {"cell": cell, "history_length": span(num_user_rows), "item_popularity": span(num_item_rows)}


def count_views(table: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """The counts of placement.py for every view and scorer."""
    parts = [
        _with_keys(count_scores(rows.select("label", score=name)), slicing, group, name)
        for slicing, group, rows in _views(table)
        for name in names
    ]
    return pl.concat(parts)


def merge_views(parts: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """The sum of `count_views` over pieces, added up as they come so that a few of them are in memory at a time."""
    pending: list[pl.DataFrame] = []
    for part in parts:
        pending.append(part)
        if sum(table.height for table in pending) > MAX_CELLS:
            pending = [_merge(pl.concat(pending))]
    return _merge(pl.concat(pending))


def user_views(table: pl.DataFrame, counts: pl.DataFrame, links: Mapping[str, Link | None], ks: Sequence[int]) -> pl.DataFrame:
    """The user table of ranking.py for every view and scorer; what slices do not report is left out of theirs."""
    parts = []
    for slicing, group, rows in _views(table):
        for name, link in links.items():
            scored = rows.select("user_id", "label", score=name)
            if slicing == ALL and link is not None:
                scored = scored.with_columns(p_like=probabilities(scored["score"], link))
            users = user_table(scored, ks if slicing == ALL else (), select(counts, name, slicing, group))
            parts.append(_with_keys(users, slicing, group, name))
    return pl.concat(parts, how="diagonal")


def select(table: pl.DataFrame, name: str, slicing: str = ALL, group: str = ALL) -> pl.DataFrame:
    """The rows of one view and scorer."""
    return table.filter((pl.col("slicing") == slicing) & (pl.col("group") == group) & (pl.col("name") == name)).drop(SLICE_KEYS)


def _views(table: pl.DataFrame) -> Iterator[tuple[str, str, pl.DataFrame]]:
    yield ALL, ALL, table
    for slicing in SLICINGS:
        if slicing in table.columns:
            for (group,), rows in table.partition_by(slicing, as_dict=True).items():
                yield slicing, str(group), rows


def _merge(counts: pl.DataFrame) -> pl.DataFrame:
    parts = counts.partition_by(SLICE_KEYS, as_dict=True).items()
    return pl.concat([_with_keys(merge_counts(part.drop(SLICE_KEYS)), *map(str, key)) for key, part in parts])


def _with_keys(table: pl.DataFrame, slicing: str, group: str, name: str) -> pl.DataFrame:
    return table.with_columns(slicing=pl.lit(slicing), group=pl.lit(group), name=pl.lit(name))
