"""A prepared data set: {train,valid,test}.parquet with its own split, and items.parquet.

Columns: row_id, uid, iid, label, timestamp in seconds; iid, title, genres ("A|B"), plot. Histories that stand in the rows are not read:
they are slices of the log (D38), and `row_id` keeps the order of rows of one second.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import pyarrow as pa

from thinkrec.artefacts.ingest import SPLITS
from thinkrec.config.data import DataSection
from thinkrec.data.readers.cast import interactions
from thinkrec.data.readers.parquet_columns import Kind, parquet, take, take_optional, time_unit
from thinkrec.data.readers.source import Batch, Source
from thinkrec.data.readers.user_columns import to_items


def read(settings: DataSection) -> Source:
    """Read the three splits and the items of the folder `data.path`."""
    splits = [_split(f"{settings.path}/{name}.parquet", name) for name in SPLITS]
    return Source(settings.path, chain(*splits), to_items(_items(f"{settings.path}/items.parquet"), "|"))


def _split(source: str, name: str) -> Iterator[Batch]:
    batches = _rows(source, name)
    first = next(batches)  # without rows: it says the types
    rows, _ = interactions(chain([first], batches), source, time_unit(first.rows, "s"))
    yield from rows


def _rows(source: str, name: str) -> Iterator[Batch]:
    for table in parquet(source):
        columns = {
            "row": take(table, "row_id", Kind.INTEGER, source),
            "user_id": take(table, "uid", Kind.ID, source),
            "item_id": take(table, "iid", Kind.ID, source),
            "ts": take(table, "timestamp", Kind.TIME, source),
            "label": take(table, "label", Kind.LABEL, source),
            "split": pa.array([name] * len(table), pa.string()),
        }
        yield Batch(pa.table(columns))


def _items(source: str) -> Iterator[Batch]:
    for table in parquet(source):
        columns = {
            "item_id": take(table, "iid", Kind.ID, source),
            "title": take(table, "title", Kind.TEXT, source),
            "text": take_optional(table, "plot", Kind.TEXT, source),
            "categories": take_optional(table, "genres", Kind.TEXT, source),
        }
        yield Batch(pa.table(columns))
