"""Vectors of the user's own that cannot be used."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from spoil import ENCODE, NAN, Case, cell, column, content, cut_short, flipped, nothing, table, until

CLUSTER = until("cluster")


def vectors_of(width: int) -> pl.Series:
    return pl.Series([[float(n + k) for k in range(width)] for n in range(6)], dtype=pl.List(pl.Float64))


def a_column_twice(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / "given/user_vectors.parquet"
    whole = pq.read_table(path)
    pq.write_table(pa.Table.from_arrays([*whole.columns, whole["id"]], names=["id", "vector", "id"]), path)


CASES = {
    "no file": Case(nothing, until("encode", "encoder.users_path=nowhere.parquet"), r"encoder\.users_path names something"),
    "not Parquet": Case(content("given/user_vectors.parquet", b"no parquet"), ENCODE, "cannot be read as Parquet"),
    "cut short": Case(content("given/user_vectors.parquet", cut_short), ENCODE, "cannot be read as Parquet"),
    "flipped bits": Case(content("given/item_vectors.parquet", flipped), ENCODE, "cannot be read as Parquet"),
    "no column": Case(table("user_vectors", lambda t: t.rename({"vector": "v"})), ENCODE, "no column vector"),
    "a column twice": Case(a_column_twice, ENCODE, "duplicate field names"),
    "numbers that are text": Case(column("user_vectors", vector=pl.Series([["a", "b"]] * 6)), ENCODE, "vector is of type .*string"),
    "one number": Case(column("user_vectors", vector=1.0), ENCODE, "vector is of type double"),
    "ids that are no text": Case(column("user_vectors", id=b"\xff"), ENCODE, "column 'id' is .*binary"),
    "no rows": Case(table("user_vectors", lambda t: t.head(0)), ENCODE, "at least one row"),
    "an empty id": Case(cell("user_vectors", "id", None), ENCODE, "no empty cell"),
    "an id twice": Case(table("user_vectors", lambda t: pl.concat([t, t.tail(1)])), ENCODE, "id 'u5' occurs more than once"),
    "NaN": Case(cell("user_vectors", "vector", [0.0, NAN, 0.0, 0.0], row=4), ENCODE, "id 'u4' holds NaN"),
    "infinity": Case(cell("item_vectors", "vector", [0.0, float("inf"), 0.0, 0.0]), ENCODE, "id 'i3' holds NaN or infinity"),
    "numbers too large for 32 bits": Case(cell("user_vectors", "vector", [1e300, 0.0, 0.0, 0.0]), ENCODE, "id 'u3' holds NaN or infinity"),
    "a number that is missing": Case(cell("user_vectors", "vector", [None, 0.0, 0.0, 0.0]), ENCODE, "id 'u3' holds NaN or infinity"),
    "two widths in a table": Case(cell("item_vectors", "vector", [1.0]), ENCODE, "id 'i3' has 1 numbers"),
    "two widths in two tables": Case(column("user_vectors", vector=vectors_of(3)), ENCODE, "user vectors have 3 numbers, item vectors 4"),
    "no width": Case(column("user_vectors", vector=vectors_of(0)), ENCODE, "hold no numbers"),
    "all equal": Case(column("user_vectors", vector=pl.Series([[1.0, 2.0]] * 6)), ENCODE, "all 6 vectors are equal"),
    "of nobody": Case(table("user_vectors", lambda t: t.with_columns(id="x" + pl.col("id"))), CLUSTER, "has a vector"),
    "users of another form": Case(
        column("user_vectors", id=pl.col("id").str.to_uppercase()), ENCODE, "6 of 6 users have no vector; 'u0' has one as 'U0'"
    ),
    "items of another form": Case(
        column("item_vectors", id=pl.col("id") + " "), ENCODE, "30 of 30 items have no vector; 'i0' has one as 'i0 '"
    ),
    "fewer users than clusters": Case(nothing, until("cluster", "cluster.num_clusters=7"), "7 clusters asked for, but the 6 train users"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_vectors_that_cannot_be_used_are_refused(refused, case):
    refused(case)
