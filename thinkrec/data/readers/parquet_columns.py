"""Taking columns out of the user's Parquet files: each wrong name or type is an error that says where and what would be right."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from enum import Enum

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from thinkrec.data.readers.headers import missing_columns
from thinkrec.data.readers.hive import parquet_files, partition, with_partition
from thinkrec.data.readers.source import Batch
from thinkrec.errors import DataError

BATCH_ROWS = 65_536


class Kind(Enum):
    """What a column must hold; the value says it to the user."""

    ID = "strings or integers"
    TEXT = "strings"
    INTEGER = "integers"
    NUMBER = "numbers"
    LABEL = "0 and 1, or true and false"
    TIME = "numbers, timestamps, dates or ISO texts"
    WORDS = "lists of strings"


def parquet(uri: str, names: Collection[str] = ()) -> Iterator[Batch]:
    """A Parquet file, or every .parquet file below a folder in order of name, in batches; of the columns `names` those that are there.

    Folders called name=value are a column, too.
    """
    system, base, files = parquet_files(uri)
    try:
        dataset = ds.dataset(files, format="parquet", filesystem=system)
        for number, table in _batches(dataset, names):
            values = {name: value for name, value in partition(dataset.files[number], base).items() if not names or name in names}
            yield Batch(with_partition(table, values), file=number)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OSError) as error:
        raise DataError(f"this cannot be read as Parquet: {error}", uri, "write it again, all files with one schema") from None


def _batches(dataset: ds.Dataset, names: Collection[str]) -> Iterator[tuple[int, pa.Table]]:
    """The rows of a pyarrow dataset of Parquet files in order, with the number of its file; an empty table first, for its columns."""
    wanted = [name for name in dataset.schema.names if name in names] if names else dataset.schema.names
    yield 0, dataset.schema.empty_table().select(wanted)
    # One row group after the other: a scan of the whole reads ahead of a slow consumer until it holds the file.
    for number, fragment in enumerate(dataset.get_fragments()):
        for row_group in fragment.split_by_row_group(schema=dataset.schema):
            for batch in row_group.to_batches(schema=dataset.schema, columns=wanted, batch_size=BATCH_ROWS):
                yield number, pa.Table.from_batches([batch])


def take(table: pa.Table, name: str, kind: Kind, source: str) -> pa.ChunkedArray:
    """Column `name` in the Arrow type of `kind`; raises DataError when it is missing or of another type.

    Times are timestamps in ms (UTC) where the type says when they are; numbers and texts stay what they are, as do texts of numbers and
    labels: `typed.interactions` reads them and refuses by row.
    """
    if name not in table.column_names:
        raise missing_columns([name], table.column_names, source, f"add {name}: {kind.value}")
    column = table[name]
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    given = column.type
    if not _ACCEPTS[kind](given):
        raise DataError(f"column {name!r} is {given}, expected {kind.value}", source, f"write {name} as {kind.value}")
    try:
        if pa.types.is_timestamp(given):
            return pc.cast(column, pa.timestamp("ms", tz=given.tz), safe=False).cast(pa.int64()).cast(pa.timestamp("ms"))
        if pa.types.is_date(given):
            return column.cast(pa.timestamp("ms"))
        if kind in LOOSE:
            return column.cast(pa.string() if is_text(given) else pa.int64() if pa.types.is_integer(given) else pa.float64())
        return column.cast(_TARGETS[kind])
    except pa.ArrowInvalid as error:
        raise DataError(f"column {name!r}: {error}", source, f"write {name} as {kind.value}") from None


def take_optional(table: pa.Table, name: str, kind: Kind, source: str) -> pa.ChunkedArray:
    """Like `take`, but nulls where the table has no such column."""
    return take(table, name, kind, source) if name in table.column_names else pa.chunked_array([pa.nulls(len(table), _TARGETS[kind])])


def time_unit(table: pa.Table, of_numbers: str) -> str:
    """The unit of the column `ts` where numbers have this unit: a text is a date and says it itself."""
    return "iso" if is_text(table["ts"].type) else of_numbers


def is_text(given: pa.DataType) -> bool:
    """Whether a type is one of Arrow's types of text."""
    return bool(pa.types.is_string(given) or pa.types.is_large_string(given) or pa.types.is_string_view(given))


def _is_list(given: pa.DataType) -> bool:
    return bool(pa.types.is_list(given) or pa.types.is_large_list(given))


def _is_number(given: pa.DataType) -> bool:
    return bool(pa.types.is_integer(given) or pa.types.is_floating(given) or pa.types.is_decimal(given) or pa.types.is_null(given))


LOOSE = (Kind.NUMBER, Kind.LABEL, Kind.TIME)  # of several types, read further by cast.py
_ACCEPTS: Mapping[Kind, Callable[[pa.DataType], bool]] = {
    Kind.ID: lambda given: is_text(given) or pa.types.is_integer(given),
    Kind.TEXT: lambda given: is_text(given) or pa.types.is_null(given),
    Kind.INTEGER: pa.types.is_integer,
    Kind.NUMBER: lambda given: _is_number(given) or is_text(given),
    Kind.LABEL: lambda given: _is_number(given) or is_text(given) or pa.types.is_boolean(given),
    Kind.TIME: lambda given: _is_number(given) or is_text(given) or pa.types.is_timestamp(given) or pa.types.is_date(given),
    Kind.WORDS: lambda given: pa.types.is_null(given) or (_is_list(given) and is_text(given.value_type)),
}
_TARGETS = {Kind.ID: pa.string(), Kind.TEXT: pa.string(), Kind.INTEGER: pa.int64(), Kind.WORDS: pa.list_(pa.string())}
