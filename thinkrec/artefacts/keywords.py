"""The artefact `keywords`: keywords.parquet (KEYWORDS, in the order of items.parquet), quarantine/keywords.parquet (REFUSED_KEYWORDS)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from thinkrec.artefacts.tables import read_table, write_rows

if TYPE_CHECKING:
    import polars as pl

Rows = Iterable[Mapping[str, object]]
KEYWORDS_FILE, REFUSED_FILE = "keywords.parquet", "quarantine/keywords.parquet"
KEYWORDS = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("keywords", pa.list_(pa.string()), nullable=False),
        pa.field("source", pa.string(), nullable=False),  # engine | categories | none
    ]
)
REFUSED_KEYWORDS = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("keyword", pa.string()),  # null: the item as a whole has no answer
        pa.field("reason", pa.string(), nullable=False),
        pa.field("answer", pa.string(), nullable=False),
    ]
)


def write_keywords(folder: Path, rows: Rows, refused: Rows) -> None:
    """Write KEYWORDS and REFUSED_KEYWORDS."""
    write_rows(folder / KEYWORDS_FILE, rows, KEYWORDS)
    write_rows(folder / REFUSED_FILE, refused, REFUSED_KEYWORDS)


def read_keywords(folder: Path, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """KEYWORDS, or some columns of it."""
    return read_table(folder / KEYWORDS_FILE, columns)
