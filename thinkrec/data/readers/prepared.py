"""A prepared data set: {train,valid,test}.parquet with its own split, and items.parquet.

Columns: row_id, uid, iid, label, timestamp in seconds; iid, title, genres ("A|B"), plot. Histories that stand in the rows are not read:
they are slices of the log (D38). `row_id` ascends in each file, which is the order of rows of one second.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import polars as pl
import pyarrow as pa

from thinkrec.artefacts.ingest import SPLITS
from thinkrec.config.data import DataSection
from thinkrec.data.readers.cast import interactions, numbered
from thinkrec.data.readers.parquet_columns import Kind, parquet, take, take_optional, time_unit
from thinkrec.data.readers.source import Batch, Source
from thinkrec.data.readers.user_columns import to_items
from thinkrec.errors import DataError


def read(settings: DataSection) -> Source:
    """Read the three splits and the items of the folder `data.path`."""
    splits = [_split(f"{settings.path}/{name}.parquet", name, number) for number, name in enumerate(SPLITS)]
    return Source(settings.path, chain(*splits), to_items(_items(f"{settings.path}/items.parquet"), "|"))


def _split(source: str, name: str, number: int) -> Iterator[Batch]:
    batches = _rows(source, name, number)
    first = next(batches)  # without rows: it says the types
    rows, _ = interactions(numbered(chain([first], batches)), source, time_unit(first.rows, "s"))
    yield from rows


def _rows(source: str, name: str, number: int) -> Iterator[Batch]:
    last = -1
    for batch in parquet(source):
        table = batch.rows
        last = _ascending(take(table, "row_id", Kind.INTEGER, source), last, source)
        columns = {
            "user_id": take(table, "uid", Kind.ID, source),
            "item_id": take(table, "iid", Kind.ID, source),
            "ts": take(table, "timestamp", Kind.TIME, source),
            "label": take(table, "label", Kind.LABEL, source),
            "split": pa.array([name] * len(table), pa.string()),
        }
        yield Batch(pa.table(columns), file=number)


def _ascending(row_ids: pa.ChunkedArray, last: int, source: str) -> int:
    """The last of these row ids; raises DataError unless they ascend from `last` on, for then none is there twice."""
    numbers = pl.Series(row_ids)
    doubtful = numbers.filter(numbers.is_null() | (numbers <= numbers.shift(1, fill_value=last)))
    if len(doubtful):
        what = f"{len(doubtful)} values of row_id are doubled, null, or lower than the one before: {', '.join(map(str, doubtful.head(3)))}"
        raise DataError(what, source, "sort the file by row_id and keep one row of each")
    return int(numbers[-1]) if len(numbers) else last


def _items(source: str) -> Iterator[Batch]:
    for batch in parquet(source):
        table = batch.rows
        columns = {
            "item_id": take(table, "iid", Kind.ID, source),
            "title": take(table, "title", Kind.TEXT, source),
            "text": take_optional(table, "plot", Kind.TEXT, source),
            "categories": take_optional(table, "genres", Kind.TEXT, source),
        }
        yield Batch(pa.table(columns))
