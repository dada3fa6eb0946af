"""The user's own tables: interactions at data.path, items at data.items_path, their columns named in [data.columns].

CSV and JSON lines (a file, or a folder of them in order of name, packed or not); Parquet, Delta and Iceberg, for which see lake.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import chain

import polars as pl
import pyarrow as pa

from thinkrec.config import ColumnsSection, DataSection
from thinkrec.data.readers import lake
from thinkrec.data.readers.columns import Kind, take
from thinkrec.data.readers.files import ending_in
from thinkrec.data.readers.tables import Batch, Source
from thinkrec.data.readers.text import delimited, json_columns, need
from thinkrec.data.readers.typed import interactions, numbered
from thinkrec.errors import MissingFileError

OPTIONAL = ("rating", "label", "split", "text", "categories")
KINDS = {
    "user_id": Kind.ID,
    "item_id": Kind.ID,
    "ts": Kind.TIME,
    "rating": Kind.NUMBER,
    "label": Kind.INTEGER,
    "split": Kind.TEXT,
    "title": Kind.TEXT,
    "text": Kind.TEXT,
    "categories": Kind.WORDS,
}
OPENERS = {"parquet": lake.parquet, "delta": lake.delta, "iceberg": lake.iceberg}


def read_text(settings: DataSection) -> Source:
    """source = "csv" or "jsonl": files of this ending."""
    return _source(settings, lambda path, names: _text(path, settings.source, names))


def read_table(settings: DataSection) -> Source:
    """source = "parquet", "delta" or "iceberg"; Ray must run."""
    return _source(settings, lambda path, names: _table(OPENERS[settings.source](path, list(names.values())), names, path))


def to_items(batches: Iterator[Batch], source: str, columns: ColumnsSection, separator: str) -> Iterator[Batch]:
    """Batches under the user's names -> those of `Source.items`; categories in one cell are parted by `separator`."""
    yield from _items(need(batches, columns.items(), source, OPTIONAL), separator)


def _source(settings: DataSection, open_at: Callable[[str, Mapping[str, str]], Iterator[Batch]]) -> Source:
    rows, notes = interactions(numbered(open_at(settings.path, settings.columns.interactions())), settings.path, settings.time_unit)
    items = _items(open_at(settings.items_path, settings.columns.items()), settings.separator)
    return Source(settings.path, rows, items, notes=notes)


def _text(path: str, ending: str, names: Mapping[str, str]) -> Iterator[Batch]:
    files = ending_in(path, f".{ending}")
    if not files:
        raise MissingFileError(f"no file here ends in .{ending}", path, "check data.path and data.items_path")
    if ending == "csv":
        return chain.from_iterable(need(delimited(file), names, file.name, OPTIONAL) for file in files)
    return chain.from_iterable(json_columns(file, names) for file in files)


def _table(tables: Iterator[pa.Table], names: Mapping[str, str], source: str) -> Iterator[Batch]:
    for table in tables:
        found = {ours: theirs for ours, theirs in names.items() if theirs in table.column_names or ours not in OPTIONAL}
        yield Batch(pa.table({ours: take(table, theirs, KINDS[ours], source) for ours, theirs in found.items()}))


def _items(batches: Iterator[Batch], separator: str) -> Iterator[Batch]:
    for batch in batches:
        rows = pl.DataFrame(batch.rows)
        for name, kind in (("text", pl.String), ("categories", pl.List(pl.String))):
            if name not in rows.columns:
                rows = rows.with_columns(pl.lit(None, kind).alias(name))
        if rows.schema["categories"] == pl.String:
            rows = rows.with_columns(pl.col("categories").str.split(separator))
        yield Batch(rows.select("item_id", "title", "text", "categories").to_arrow(), batch.bad)
