"""Vectors the user brings: industrial users have towers of their own. They are checked once here, so no later stage has to doubt them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import fs

from thinkrec.artefacts.buckets import split_by_bucket
from thinkrec.artefacts.vectors import vector_columns, write_bucket_vectors
from thinkrec.data.readers.parquet_columns import Kind, parquet, take
from thinkrec.errors import DataError, MissingFileError
from thinkrec.store.address import open_root


def read(path: str, key: str) -> pa.Table:
    """The table at `path` as vector_columns(d); `key` is the config key that named it.

    Raises MissingFileError, or DataError for missing columns, empty or doubled ids, varying width, NaN, or vectors that are all equal.
    """
    table = pa.concat_tables(_batches(path, key)).combine_chunks()
    _refuse_doubled(_doubled(table["id"]), path)
    return table


def write_users(path: str, key: str, folder: Path, num_buckets: int) -> tuple[int, int]:
    """Write the vectors at `path` into an encode artefact by bucket; returns their width and number, and raises what `read` does.

    Memory holds a batch, then a bucket.
    """
    with tempfile.TemporaryDirectory(prefix="thinkrec-") as spilled:
        schema = None
        for batch in _batches(path, key):
            schema = batch.schema
            for bucket, rows in enumerate(split_by_bucket(batch, "id", num_buckets)):
                if len(rows):
                    _append(f"{spilled}/{bucket}", rows)
        assert schema is not None  # a table without rows is refused
        num_users, doubled = 0, []
        for bucket in range(num_buckets):
            rows = _appended(f"{spilled}/{bucket}", schema)
            doubled += _doubled(rows["id"])
            num_users += len(rows)
            write_bucket_vectors(folder, bucket, rows)
    _refuse_doubled(doubled, path)
    return schema.field("vector").type.list_size, num_users


def _append(file: str, rows: pa.Table) -> None:
    with pa.OSFile(file, "ab") as sink, pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)


def _appended(file: str, schema: pa.Schema) -> pa.Table:
    """What `_append` wrote, one stream a call."""
    tables = [schema.empty_table()]
    if Path(file).is_file():
        with pa.OSFile(file) as source:
            while source.tell() < source.size():
                tables.append(pa.ipc.open_stream(source).read_all())
    return pa.concat_tables(tables)


def _doubled(ids: pa.ChunkedArray) -> list[str]:
    counts = pc.value_counts(ids)
    found: list[str] = pc.filter(counts.field(0), pc.greater(counts.field(1), 1)).to_pylist()
    return found


def _refuse_doubled(ids: list[str], path: str) -> None:
    if ids:
        raise DataError(f"id {ids[0]!r} occurs more than once, {len(ids)} ids do", f"{path}: id", "keep one row an id")


def _batches(path: str, key: str) -> Iterator[pa.Table]:
    """The rows of a table of vectors as vector_columns(d), checked but for doubled ids."""
    system, place = open_root(path)
    if system.get_file_info(place).type == fs.FileType.NotFound:
        raise MissingFileError("the table of vectors is not there", f"{path} ({key})", "name a parquet file with columns id and vector")
    first: tuple[str, list[float]] | None = None
    num_rows, all_equal = 0, True
    for part in parquet(path, ("id", "vector")):
        batch = _columns(part.rows, f"{path} ({key})")
        if not batch.num_rows:  # the first one, which tells the columns
            continue
        dim = _width(batch, path, first)
        table = _typed(batch, path, dim)
        first = first or (table["id"][0].as_py(), table["vector"][0].as_py())
        values = pl.Series(table["vector"]).to_numpy()
        all_equal &= bool((values == np.array(first[1], np.float32)).all())
        num_rows += len(table)
        yield table
    if not num_rows:
        raise DataError("a table of vectors needs at least one row and no empty cell", f"{path} ({key})", "write one row an id")
    if num_rows > 1 and all_equal:
        raise DataError(f"all {num_rows} vectors are equal", f"{path}: vector", "export the trained vectors")


def _typed(batch: pa.Table, path: str, dim: int) -> pa.Table:
    vectors = batch["vector"].cast(pa.list_(pa.float32(), dim)).combine_chunks()
    values = vectors.flatten().to_numpy(zero_copy_only=False).reshape(-1, dim)
    bad = pl.Series(batch["id"]).filter(pl.Series(~np.isfinite(values).all(axis=1)))
    if len(bad):
        raise DataError(f"the vector of id {bad[0]!r} holds NaN or infinity, {len(bad)} vectors do", f"{path}: vector", "export them again")
    return pa.Table.from_arrays([batch["id"].combine_chunks(), vectors], schema=vector_columns(dim))


def _columns(table: pa.Table, where: str) -> pa.Table:
    missing = {"id", "vector"} - set(table.column_names)
    if missing:
        raise DataError(f"no column {', '.join(sorted(missing))}", where, "name the columns id and vector")
    ids, kind = take(table, "id", Kind.ID, where), table["vector"].type
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if not lists or not (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)):
        raise DataError(f"vector is of type {kind}", f"{where}: vector", "store a list of floats a row")
    if ids.null_count or table["vector"].null_count:
        raise DataError("a table of vectors needs at least one row and no empty cell", where, "drop rows without id or vector")
    return pa.table({"id": ids, "vector": table["vector"]})


def _width(batch: pa.Table, path: str, first: tuple[str, list[float]] | None) -> int:
    """The numbers of a vector, in this batch as in `first`, the table's first row."""
    widths = pl.Series(pc.list_value_length(batch["vector"]))
    name, dim = (batch["id"][0].as_py(), int(widths[0])) if first is None else (first[0], len(first[1]))
    other = (widths != dim).arg_max() if (widths != dim).any() else None
    if other is not None:
        what = f"the vector of id {batch['id'][other].as_py()!r} has {widths[other]} numbers, that of {name!r} {dim}"
        raise DataError(what, f"{path}: vector", "all vectors of a table must be of one width")
    if dim == 0:
        raise DataError("the vectors hold no numbers", f"{path}: vector", "export them again")
    return dim
