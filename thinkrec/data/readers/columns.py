"""Taking columns out of the user's Parquet files: each wrong name or type is an error that says where and what would be right."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from enum import Enum
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pyarrow import fs

from thinkrec.errors import DataError, MissingFileError
from thinkrec.store import look

BATCH_ROWS = 65_536


class Kind(Enum):
    """What a column must hold; the value says it to the user."""

    ID = "strings or integers"
    TEXT = "strings"
    INTEGER = "integers"
    NUMBER = "numbers"
    TIME = "integers (milliseconds) or timestamps"
    WORDS = "lists of strings"


def parquet(uri: str, names: Collection[str] = ()) -> Iterator[pa.Table]:
    """A Parquet file, or every .parquet file below a folder in order of name, in batches; of the columns `names` those that are there."""
    system, files = parquet_files(uri)
    try:
        yield from _batches(ds.dataset(files, format="parquet", filesystem=system), names)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OSError) as error:
        raise DataError(f"this cannot be read as Parquet: {error}", uri, "write it again, all files with one schema") from None


def parquet_files(uri: str) -> tuple[Any, list[str]]:
    """The file system of an address, and its one file or every .parquet file below the folder, in order of name."""
    system, base, info = look(uri)
    below = system.get_file_info(fs.FileSelector(base, recursive=True)) if info.type == fs.FileType.Directory else [info]
    files = sorted(entry.path for entry in below if entry.is_file and (entry.path == base or entry.path.endswith(".parquet")))
    if not files:
        raise MissingFileError("no Parquet file is there", uri, "check data.path")
    return system, files


def _batches(dataset: Any, names: Collection[str]) -> Iterator[pa.Table]:
    """The rows of a pyarrow dataset of Parquet files in order; an empty table first, for its columns."""
    wanted = [name for name in dataset.schema.names if name in names] if names else dataset.schema.names
    yield dataset.schema.empty_table().select(wanted)
    # One row group after the other: a scan of the whole reads ahead of a slow consumer until it holds the file.
    for fragment in dataset.get_fragments():
        for row_group in fragment.split_by_row_group(schema=dataset.schema):
            for batch in row_group.to_batches(schema=dataset.schema, columns=wanted, batch_size=BATCH_ROWS):
                yield pa.Table.from_batches([batch])


def take(table: pa.Table, name: str, kind: Kind, source: str) -> pa.ChunkedArray:
    """Column `name` in the Arrow type of `kind`; raises DataError when it is missing or of another type."""
    if name not in table.column_names:
        raise DataError(f"column {name!r} is missing; there are {', '.join(table.column_names)}", source, f"add {name}: {kind.value}")
    column = table[name]
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if not _ACCEPTS[kind](column.type):
        raise DataError(f"column {name!r} is {column.type}, expected {kind.value}", source, f"write {name} as {kind.value}")
    try:
        if pa.types.is_timestamp(column.type):
            return pc.cast(column, pa.timestamp("ms", tz=column.type.tz), safe=False).cast(pa.int64())
        return column.cast(_TARGETS[kind])
    except pa.ArrowInvalid as error:
        raise DataError(f"column {name!r}: {error}", source, f"write {name} as {kind.value}") from None


def take_optional(table: pa.Table, name: str, kind: Kind, source: str) -> pa.ChunkedArray:
    """Like `take`, but nulls where the table has no such column."""
    return take(table, name, kind, source) if name in table.column_names else pa.chunked_array([pa.nulls(len(table), _TARGETS[kind])])


def _is_text(given: pa.DataType) -> bool:
    return bool(pa.types.is_string(given) or pa.types.is_large_string(given) or pa.types.is_string_view(given))


def _is_list(given: pa.DataType) -> bool:
    return bool(pa.types.is_list(given) or pa.types.is_large_list(given))


_ACCEPTS: Mapping[Kind, Callable[[Any], bool]] = {
    Kind.ID: lambda given: _is_text(given) or pa.types.is_integer(given),
    Kind.TEXT: lambda given: _is_text(given) or pa.types.is_null(given),
    Kind.INTEGER: pa.types.is_integer,
    Kind.NUMBER: lambda given: pa.types.is_integer(given) or pa.types.is_floating(given),
    Kind.TIME: lambda given: pa.types.is_integer(given) or pa.types.is_timestamp(given),
    Kind.WORDS: lambda given: pa.types.is_null(given) or (_is_list(given) and _is_text(given.value_type)),
}
_TARGETS = {
    Kind.ID: pa.string(),
    Kind.TEXT: pa.string(),
    Kind.INTEGER: pa.int64(),
    Kind.NUMBER: pa.float32(),
    Kind.TIME: pa.int64(),
    Kind.WORDS: pa.list_(pa.string()),
}
