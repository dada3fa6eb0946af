"""Vectors the user brings: industrial users have towers of their own. They are checked once here, so no later stage has to doubt them."""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs

from thinkrec.artefacts.vectors import vector_columns
from thinkrec.data.readers.parquet_columns import Kind, take
from thinkrec.errors import DataError, MissingFileError
from thinkrec.store.address import open_root


def read(path: str, key: str) -> pa.Table:
    """The table at `path` as vector_columns(d); `key` is the config key that named it.

    Raises MissingFileError, or DataError for missing columns, empty or doubled ids, varying width, NaN, or vectors that are all equal.
    """
    table = _columns(path, key)
    ids = table["id"].combine_chunks()
    if table.num_rows == 0 or table["id"].null_count or table["vector"].null_count:
        raise DataError("a table of vectors needs at least one row and no empty cell", f"{path} ({key})", "drop rows without id or vector")
    doubled = pc.filter(pc.value_counts(ids).field(0), pc.greater(pc.value_counts(ids).field(1), 1))
    if len(doubled):
        raise DataError(f"id {doubled[0].as_py()!r} occurs more than once, {len(doubled)} ids do", f"{path}: id", "keep one row an id")
    dim = _width(table, path)
    vectors = table["vector"].cast(pa.list_(pa.float32(), dim)).combine_chunks()
    values = vectors.flatten().to_numpy(zero_copy_only=False).reshape(-1, dim)
    bad = pl.Series(ids).filter(pl.Series(~np.isfinite(values).all(axis=1)))
    if len(bad):
        raise DataError(f"the vector of id {bad[0]!r} holds NaN or infinity, {len(bad)} vectors do", f"{path}: vector", "export them again")
    if len(values) > 1 and (values == values[0]).all():
        raise DataError(f"all {len(values)} vectors are equal", f"{path}: vector", "export the trained vectors")
    return pa.Table.from_arrays([ids, vectors], schema=vector_columns(dim))


def _columns(path: str, key: str) -> pa.Table:
    system, place = open_root(path)
    if system.get_file_info(place).type == fs.FileType.NotFound:
        raise MissingFileError("the table of vectors is not there", f"{path} ({key})", "name a parquet file with columns id and vector")
    try:
        table = pq.read_table(place, filesystem=system)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OSError) as error:
        raise DataError(f"this cannot be read as parquet: {error}", f"{path} ({key})", "write it with pyarrow or polars") from None
    missing = {"id", "vector"} - set(table.column_names)
    if missing:
        raise DataError(f"no column {', '.join(sorted(missing))}", f"{path} ({key})", "name the columns id and vector")
    ids, kind = take(table, "id", Kind.ID, f"{path} ({key})"), table["vector"].type
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if not lists or not (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)):
        raise DataError(f"vector is of type {kind}", f"{path}: vector", "store a list of floats a row")
    return pa.table({"id": ids, "vector": table["vector"]})


def _width(table: pa.Table, path: str) -> int:
    widths = pl.Series(pc.list_value_length(table["vector"]))
    first = int(widths[0])
    other = (widths != first).arg_max() if (widths != first).any() else None
    if other is not None:
        what = f"the vector of id {table['id'][other].as_py()!r} has {widths[other]} numbers, that of {table['id'][0].as_py()!r} {first}"
        raise DataError(what, f"{path}: vector", "all vectors of a table must be of one width")
    if first == 0:
        raise DataError("the vectors hold no numbers", f"{path}: vector", "export them again")
    return first
