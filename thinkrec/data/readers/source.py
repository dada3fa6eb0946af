"""What a reader hands over: streams of checked types whose rows nobody has judged yet, and the rows it could not even parse."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl
import pyarrow as pa

REFUSED_ROWS = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),  # file or table
        pa.field("row", pa.int64(), nullable=False),  # lines of a text file count from 1, rows of a table as its `row` column says
        pa.field("reason", pa.string(), nullable=False),
        pa.field("content", pa.string(), nullable=False),
    ]
)
NO_INTERACTIONS = pa.schema([("row", pa.int64()), ("user_id", pa.string()), ("item_id", pa.string()), ("ts", pa.int64())])
NO_ITEMS = pa.schema([("item_id", pa.string()), ("title", pa.string()), ("text", pa.string()), ("categories", pa.list_(pa.string()))])
FILE_BITS = 40  # of a row number, below the number of its file
MAX_CONTENT = 500  # characters of a refused row that are kept

Reasons = Mapping[str, pl.Expr]  # why a row is refused -> whether it is


@dataclass(frozen=True)
class Batch:
    """One stretch of a source: the rows that could be parsed, REFUSED_ROWS rows of the others, and the number of the file they are from."""

    rows: pa.Table
    bad: pa.Table = field(default_factory=REFUSED_ROWS.empty_table)
    file: int = 0  # in the order of reading; a table of a lake is one file


@dataclass(frozen=True)
class Source:
    """A data set opened by its reader. Both streams hold one batch at a time and can be read once.

    interactions: row int64, the number of the file << FILE_BITS | the row in it; user_id and item_id string, ts int64 ms; rating float32
    and/or label int64; split string if the source has one.
    items: item_id, title, text string, categories list<string>; ts int64 ms, when the text was written, if the source says so.
    Ids and values may still be null or wrong: validate.py judges them.
    """

    name: str  # where the user finds it: a path, or "world"
    interactions: Iterator[Batch]
    items: Iterator[Batch]
    truth: pa.Table | None = None
    notes: Sequence[str] = ()  # how the source was understood where it could be understood otherwise


@dataclass(frozen=True)
class Tables:
    """A source read to its end: the columns of `Source`, never the raw text they were cut from."""

    source: str
    interactions: pa.Table
    items: pa.Table
    truth: pa.Table | None = None
    bad_interactions: pa.Table = field(default_factory=REFUSED_ROWS.empty_table)
    bad_items: pa.Table = field(default_factory=REFUSED_ROWS.empty_table)
    notes: Sequence[str] = ()

    @property
    def quarantine(self) -> pa.Table:
        """The refused rows of both tables."""
        return pa.concat_tables([self.bad_interactions, self.bad_items])


def collect(source: Source) -> Tables:
    """Read both streams to their end."""
    interactions, bad_interactions = _join(source.interactions, NO_INTERACTIONS)
    items, bad_items = collect_items(source)
    return Tables(source.name, interactions, items, source.truth, bad_interactions, bad_items, source.notes)


def collect_items(source: Source) -> tuple[pa.Table, pa.Table]:
    """Read the items to their end: the catalogue, and REFUSED_ROWS of what could not be parsed."""
    return _join(source.items, NO_ITEMS)


def refused(source: str, rows: Sequence[int], reasons: Sequence[str], contents: Sequence[str]) -> pa.Table:
    """A REFUSED_ROWS table of these rows."""
    shortened = [content[:MAX_CONTENT] for content in contents]
    return pa.table([[source] * len(rows), rows, reasons, shortened], schema=REFUSED_ROWS)


def part(frame: pl.DataFrame, reasons: Reasons, source: str, hidden: Sequence[str] = ()) -> tuple[pl.DataFrame, pa.Table]:
    """Rows (with a column `row`) to which no reason applies, and the others, refused with the first that does.

    A refused row's content is its columns but for those `hidden`.
    """
    first = pl.coalesce(pl.when(holds.fill_null(False)).then(pl.lit(reason)) for reason, holds in reasons.items())
    judged = frame.with_columns(reason=first)
    bad = judged.filter(pl.col("reason").is_not_null())
    content = bad.select(pl.struct(pl.exclude("row", "reason", *hidden)).struct.json_encode()).to_series()
    good = judged.filter(pl.col("reason").is_null()).drop("reason")
    return good, refused(source, bad["row"].to_list(), bad["reason"].to_list(), content.to_list())


def _join(batches: Iterable[Batch], empty: pa.Schema) -> tuple[pa.Table, pa.Table]:
    read = list(batches)
    if not read:
        return empty.empty_table(), REFUSED_ROWS.empty_table()
    return pa.concat_tables([batch.rows for batch in read]), pa.concat_tables([batch.bad for batch in read])
