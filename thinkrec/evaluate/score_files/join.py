"""Joining a score file with labels, a reference and a train file, so that every row is judged against its own label.

Rows are matched by user and item, and by their numbers only where these do not say which row is meant.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from thinkrec.errors import DataError
from thinkrec.evaluate.score_files.findings import ROW_KEYS, SCHEMA, Kind, finding, rows_read
from thinkrec.evaluate.score_files.slices import slice_columns

PAIR_KEY = ("user_id", "item_id")
UNKNOWN: tuple[Kind, Kind] = ("unknown users", "unknown items")
OTHER_VALUES: Mapping[str, Kind] = {"label": "labels", "row": "numbers"}  # a column of two files, and the finding where they differ


def check_matchable(columns: Mapping[str, Mapping[str, str]], paths: Mapping[str, str]) -> None:
    """Raises DataError where labels or reference share no more than users with the scores. columns: of each source, by our names."""
    for source in ("labels", "reference"):
        if source in paths and not set(columns["scores"]) & set(columns[source]) & {"item_id", "row"}:
            both = f"{paths['scores']}, {paths[source]}"
            raise DataError("these two files cannot be matched row by row", both, "both need user_id and item_id, or user_id and row")


def join_sources(tables: Mapping[str, pl.DataFrame], item_rows: pl.DataFrame | None) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows of `scores`: user_id, label, a column `scores`, one `reference` if there is one, and with `train` the slicing columns.

    tables: by source, of all users or of the same part of them. item_rows: (item_id, num_rows) in train, over all users.
    The second table holds the findings: rows that are copies are left out, all else is counted, for `findings.settle` to judge.
    """
    joined, found = _distinct(tables["scores"], "scores")
    joined = joined.rename({"score": "scores"})
    for source, column in (("labels", "label"), ("reference", "score")):
        if source in tables:
            shared = [name for name in ROW_KEYS if name in joined.columns and name in tables[source].columns]
            values = [name for name in dict.fromkeys([column, "label"]) if name in tables[source].columns]
            other, told = _distinct(tables[source].select(*shared, *values), source)
            joined, matched = _match(joined, other.rename({"score": "reference"}, strict=False), source)
            found = pl.concat([found, told, matched])
    if item_rows is not None:
        joined, told = _with_slices(joined, tables["train"], item_rows)
        found = pl.concat([found, told])
    return joined.drop("row", "item_id", strict=False), found


def _distinct(table: pl.DataFrame, source: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The table without copies of rows, and what was found among rows of one key."""
    keys = [name for name in ROW_KEYS if name in table.columns]
    rows = rows_read(source, table.height)
    repeating = _repeating(table, (*keys, "score")[1])
    if repeating.is_empty():
        return table, rows
    first = pl.struct(pl.all()).is_first_distinct()
    unique, copies = repeating.filter(first), repeating.filter(~first)
    if keys == ["user_id"]:
        return table, pl.concat([rows, finding("equal", source, copies)])
    conflict = pl.struct(keys).is_duplicated()
    found = [rows, finding("copies", source, copies), finding("conflicts", source, unique.filter(conflict))]
    if keys == [*ROW_KEYS]:
        found.append(finding("repeats", source, unique.filter(~conflict & ~pl.struct(PAIR_KEY).is_first_distinct())))
    return pl.concat([table.join(repeating, on="user_id", how="anti"), unique]), pl.concat(found)


def _repeating(table: pl.DataFrame, column: str) -> pl.DataFrame:
    """The rows of users who have a value of the column twice: few, if any, so that what is looked for among them costs little."""
    users = table.group_by("user_id").agg(twice=pl.col(column).n_unique() < pl.len()).filter("twice")
    return table.join(users, on="user_id", how="semi") if users.height else table.clear()


def _match(table: pl.DataFrame, other: pl.DataFrame, source: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """`table` with the new column of `other`, for rows that are in both; what is not in both is a finding."""
    keys, told = [name for name in ROW_KEYS if name in other.columns], []
    if len(keys) < sum(name in table.columns for name in ROW_KEYS):
        same = _repeating(table, keys[1])
        told.append(finding("ambiguous", source, same.filter(pl.struct(keys).is_duplicated())))
    if keys == [*ROW_KEYS]:  # the pair says which row is meant, its number only where the pair repeats
        table, other = (side.with_columns(place=_place(side)) for side in (table, other))
        keys = [*PAIR_KEY, "place"]
    joined = table.join(other, on=keys, maintain_order="left", nulls_equal=True, suffix="_other")
    if not table.height == joined.height == other.height:
        told.append(finding("alone", source, table.join(other, on=keys, how="anti", nulls_equal=True)))
        told.append(finding("extra", source, other.join(table, on=keys, how="anti", nulls_equal=True)))
    for column, kind in OTHER_VALUES.items():
        if f"{column}_other" in joined.columns:
            told.append(finding(kind, source, joined.filter(pl.col(column) != pl.col(f"{column}_other"))))
    return joined.drop("place", "label_other", "row_other", strict=False), pl.concat([pl.DataFrame(schema=SCHEMA), *told])


def _place(table: pl.DataFrame) -> pl.Expr:
    if _repeating(table, "item_id").is_empty():
        return pl.lit(None, pl.Int64)
    return pl.when(pl.struct(PAIR_KEY).is_duplicated()).then("row")


def _with_slices(table: pl.DataFrame, train: pl.DataFrame, item_rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    user_rows = train.group_by("user_id").agg(num_user_rows=pl.len())
    joined = table.join(user_rows, on="user_id", how="left", maintain_order="left")
    joined = joined.join(item_rows.rename({"num_rows": "num_item_rows"}), on="item_id", how="left", maintain_order="left")
    counts = pl.col("num_user_rows"), pl.col("num_item_rows")
    found = [rows_read("train", train.height)]
    found.append(finding("repeats", "train", _repeating(train, "item_id").filter(~pl.struct(PAIR_KEY).is_first_distinct())))
    for name, number, kind in zip(PAIR_KEY, counts, UNKNOWN, strict=True):
        found.append(finding(kind, "train", joined.filter(number.is_null()).select(name)))
    sliced = joined.with_columns(**slice_columns(*(number.fill_null(0) for number in counts)))
    return sliced.drop("num_user_rows", "num_item_rows"), pl.concat(found)
