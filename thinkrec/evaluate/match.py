"""Joining a score file with labels, a reference and a train file, so that every row is judged against its own label."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from thinkrec.errors import DataError
from thinkrec.evaluate.views import slice_columns

KEYS = (["row"], ["user_id", "item_id"])


def join_sources(tables: Mapping[str, pl.DataFrame], paths: Mapping[str, str], item_rows: pl.DataFrame | None) -> pl.DataFrame:
    """The rows of `scores`: user_id, label, a column `scores`, one `reference` if there is one, and with `train` the slicing columns.

    tables: by source, of all users or of the same part of them. item_rows: (item_id, num_rows) in train, over all users.
    Raises DataError where the rows of two files do not match one to one.
    """
    joined = tables["scores"].rename({"score": "scores"})
    if "labels" in paths:
        joined = _match(joined.drop("label", strict=False), tables["labels"], "label", paths["scores"], paths["labels"])
    if "reference" in paths:
        other = tables["reference"].rename({"score": "reference"})
        joined = _match(joined, other, "reference", paths["scores"], paths["reference"])
    if item_rows is not None:
        user_rows = tables["train"].group_by("user_id").agg(num_user_rows=pl.len())
        joined = joined.join(user_rows, on="user_id", how="left", maintain_order="left")
        joined = joined.join(item_rows.rename({"num_rows": "num_item_rows"}), on="item_id", how="left", maintain_order="left")
        joined = joined.with_columns(**slice_columns(pl.col("num_user_rows").fill_null(0), pl.col("num_item_rows").fill_null(0)))
    return joined.drop("row", "item_id", "num_user_rows", "num_item_rows", strict=False)


def _match(table: pl.DataFrame, other: pl.DataFrame, column: str, path: str, other_path: str) -> pl.DataFrame:
    """`table` with a column of `other`; both must hold exactly the same rows, each once."""
    keys = next((keys for keys in KEYS if all(key in table.columns and key in other.columns for key in keys)), None)
    both = f"{path}, {other_path}"
    if keys is None:
        raise DataError("these two files cannot be matched row by row", both, "both need user_id and item_id, or row")
    for side, where in ((table, path), (other, other_path)):
        twice = side.select(keys).filter(side.select(keys).is_duplicated())
        if twice.height:
            raise DataError(f"{twice.row(0, named=True)} stands in more than one row", where, "keep one row of each")
    joined = table.join(other.select(*keys, column), on=keys, maintain_order="left")
    if not table.height == joined.height == other.height:
        raise DataError(f"{table.height} and {other.height} rows, {joined.height} of them in both", both, "score the same rows in both")
    return joined
