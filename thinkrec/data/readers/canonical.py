"""A folder in thinkrec's own layout: interactions.parquet (or a folder `interactions`), items.parquet; columns of artefacts/ingest.py."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import polars as pl
import pyarrow as pa
from pyarrow import fs

from thinkrec.config.data import DataSection
from thinkrec.data.readers.cast import interactions, numbered
from thinkrec.data.readers.parquet_columns import Kind, parquet, take, take_optional, time_unit
from thinkrec.data.readers.source import Batch, Source, part
from thinkrec.data.readers.times import find_clock
from thinkrec.errors import DataError
from thinkrec.store.address import look

INTERACTIONS_FILE, ITEMS_FILE = "interactions.parquet", "items.parquet"
NEEDED = {"user_id": Kind.ID, "item_id": Kind.ID, "ts": Kind.TIME}
OPTIONAL = {"rating": Kind.NUMBER, "label": Kind.LABEL, "split": Kind.TEXT}


def read(settings: DataSection) -> Source:
    """Read user_id, item_id, ts with rating and/or label, split where given; items with item_id, title, and where given text, categories
    and ts, when the text was written.
    """
    is_folder = look(f"{settings.path}/interactions")[2].type == fs.FileType.Directory
    path = f"{settings.path}/interactions" if is_folder else f"{settings.path}/{INTERACTIONS_FILE}"
    batches = _interactions(path, settings.label_rule != "implicit")
    first = next(batches)  # without rows: it says the types
    rows, _ = interactions(numbered(chain([first], batches)), path, time_unit(first.rows, "ms"))
    return Source(settings.path, rows, _items(f"{settings.path}/{ITEMS_FILE}"))


def _interactions(source: str, is_rated: bool) -> Iterator[Batch]:
    for batch in parquet(source, [*NEEDED, *OPTIONAL]):
        table = batch.rows
        columns = {name: take(table, name, kind, source) for name, kind in NEEDED.items()}
        columns |= {name: take(table, name, kind, source) for name, kind in OPTIONAL.items() if name in table.column_names}
        if is_rated and "rating" not in columns and "label" not in columns:
            listed = ", ".join(table.column_names)
            raise DataError(f"neither 'rating' nor 'label' is among the columns {listed}", source, "add rating: numbers, or label: 0 or 1")
        yield Batch(pa.table(columns), file=batch.file)


def _items(source: str) -> Iterator[Batch]:
    batches = _described(source)
    first = next(batches)
    whole = chain([first], batches)
    return _dated(numbered(whole), time_unit(first.rows, "ms"), source) if "ts" in first.rows.column_names else whole


def _dated(batches: Iterator[Batch], unit: str, source: str) -> Iterator[Batch]:
    """Items with the time of their text in milliseconds; one that cannot be read would escape the audit, so its row is refused."""
    for batch in batches:
        rows = pl.DataFrame(batch.rows)
        clock = find_clock(unit, rows["ts"], source)
        unread = pl.col("ts").is_not_null() & clock.millis().is_null()
        good, bad = part(rows, {f"ts cannot be read as {clock.name}": unread}, "items")
        yield Batch(good.drop("row").with_columns(ts=clock.millis()).to_arrow(), bad)


def _described(source: str) -> Iterator[Batch]:
    for batch in parquet(source):
        table = batch.rows
        columns = {"item_id": take(table, "item_id", Kind.ID, source), "title": take(table, "title", Kind.TEXT, source)}
        columns["text"] = take_optional(table, "text", Kind.TEXT, source)
        columns["categories"] = take_optional(table, "categories", Kind.WORDS, source)
        if "ts" in table.column_names:
            columns["ts"] = take(table, "ts", Kind.TIME, source)
        yield Batch(pa.table(columns))
