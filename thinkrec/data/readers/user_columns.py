"""The user's own tables: interactions at data.path, items at data.items_path, their columns named in [data.columns].

CSV, whatever of DELIMITERS parts its columns, and JSON lines (a file, or a folder of them in order of name, packed or not); Parquet, Delta
and Iceberg, for which see lake.py.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace

import polars as pl
import pyarrow as pa

from thinkrec.config.data import DataSection
from thinkrec.data.readers import lake
from thinkrec.data.readers.cast import interactions, numbered
from thinkrec.data.readers.delimiters import find_delimiter
from thinkrec.data.readers.files import ending_in
from thinkrec.data.readers.headers import DELIMITERS, RENAME, choose
from thinkrec.data.readers.json_lines import json_columns
from thinkrec.data.readers.lists import split_lists
from thinkrec.data.readers.packing import File
from thinkrec.data.readers.parquet_columns import Kind, is_text, parquet, take
from thinkrec.data.readers.source import Batch, Source
from thinkrec.data.readers.text import delimited, need
from thinkrec.errors import MissingFileError

KINDS = {
    "user_id": Kind.ID,
    "item_id": Kind.ID,
    "ts": Kind.TIME,
    "rating": Kind.NUMBER,
    "label": Kind.LABEL,
    "split": Kind.TEXT,
    "title": Kind.TEXT,
    "text": Kind.TEXT,
    "categories": Kind.WORDS,
}
OPENERS = {"parquet": lake.parquet, "delta": lake.delta, "iceberg": lake.iceberg}
Opener = Callable[[str, Mapping[str, str], Collection[str]], Iterator[Batch]]  # path, our name -> the user's, those that may be missing


def read_text(settings: DataSection) -> Source:
    """source = "csv" or "jsonl": files of this ending."""
    return _source(settings, _csv if settings.source == "csv" else _jsonl)


def read_table(settings: DataSection) -> Source:
    """source = "parquet", "delta" or "iceberg"; Ray must run."""
    return _source(
        settings, lambda path, names, optional: _table(OPENERS[settings.source](path, list(names.values())), names, path, optional)
    )


def read_parquet_here(settings: DataSection) -> Source:
    """source = "parquet" read by this process instead of Ray, for a look at the first rows."""
    return _source(settings, lambda path, names, optional: _table(parquet(path, list(names.values())), names, path, optional))


def to_items(batches: Iterator[Batch], separator: str | None) -> Iterator[Batch]:
    """Batches with item_id, title and perhaps text and categories -> those of `Source.items`; lists in one cell: see lists.py."""
    for batch in batches:
        rows = pl.DataFrame(batch.rows)
        for name, kind in (("text", pl.String), ("categories", pl.List(pl.String))):
            if name not in rows.columns:
                rows = rows.with_columns(pl.lit(None, kind).alias(name))
        if rows.schema["categories"] == pl.String:
            rows = rows.with_columns(categories=split_lists(rows["categories"], separator))
        yield Batch(rows.select("item_id", "title", "text", "categories").to_arrow(), batch.bad)


def _source(settings: DataSection, open_at: Opener) -> Source:
    columns = settings.columns
    log = numbered(open_at(settings.path, columns.interactions(), columns.optional()))
    rows, notes = interactions(log, settings.path, settings.time_unit)
    items = to_items(open_at(settings.items_path, columns.items(), columns.optional()), settings.separator)
    return Source(settings.path, rows, items, notes=notes)


def _csv(path: str, names: Mapping[str, str], optional: Collection[str]) -> Iterator[Batch]:
    needed = {theirs for ours, theirs in names.items() if ours not in optional}
    fix = f"{RENAME}; tried between them: {', '.join(DELIMITERS.values())}"
    for number, file in enumerate(_files(path, ".csv", ".tsv")):
        batches = delimited(file, find_delimiter(file, needed.issubset))
        yield from (replace(batch, file=number) for batch in need(batches, names, file.name, optional, fix))


def _jsonl(path: str, names: Mapping[str, str], optional: Collection[str]) -> Iterator[Batch]:
    return json_columns(_files(path, ".jsonl"), names, optional)


def _table(tables: Iterator[Batch], names: Mapping[str, str], source: str, optional: Collection[str]) -> Iterator[Batch]:
    for batch in tables:
        table = batch.rows
        found = choose(names, table.column_names, source, optional)
        kinds = {ours: Kind.TEXT if ours == "categories" and is_text(table[theirs].type) else KINDS[ours] for ours, theirs in found.items()}
        yield Batch(pa.table({ours: take(table, theirs, kinds[ours], source) for ours, theirs in found.items()}), file=batch.file)


def _files(path: str, *endings: str) -> list[File]:
    """The files of the first of these endings that there is."""
    files = next(filter(None, (ending_in(path, ending) for ending in endings)), [])
    if not files:
        raise MissingFileError(f"no file here ends in {' or '.join(endings)}", path, "check data.path and data.items_path")
    return files
