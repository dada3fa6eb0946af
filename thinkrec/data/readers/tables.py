"""What a reader hands over: tables of checked types whose rows nobody has judged yet, and the rows it could not even parse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa

QUARANTINE = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),  # file or table
        pa.field("row", pa.int64(), nullable=False),  # lines of a text file count from 1, rows of a table as its `row` column says
        pa.field("reason", pa.string(), nullable=False),
        pa.field("content", pa.string(), nullable=False),
    ]
)
MAX_CONTENT = 500  # characters of a refused row that are kept


@dataclass(frozen=True)
class Tables:
    """One data set as its reader found it.

    interactions: row int64, user_id and item_id string, ts int64 ms; rating float32 and/or label int64; split string if the source has one.
    items: item_id, title, text string, categories list<string>; ts int64 ms, when the text was written, if the source says so.
    Ids and values may still be null or wrong: validate.py judges them.
    """

    source: str  # where the user finds it: a path, or "world"
    interactions: pa.Table
    items: pa.Table
    truth: pa.Table | None = None
    quarantine: pa.Table = field(default_factory=QUARANTINE.empty_table)


def refused(source: str, rows: Sequence[int], reasons: Sequence[str], contents: Sequence[str]) -> pa.Table:
    """A QUARANTINE table of these rows."""
    shortened = [content[:MAX_CONTENT] for content in contents]
    return pa.table([[source] * len(rows), rows, reasons, shortened], schema=QUARANTINE)
