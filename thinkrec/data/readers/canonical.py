"""A folder in thinkrec's own layout: interactions.parquet (or a folder `interactions`) and items.parquet, columns as in data/schema.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from thinkrec.config import DataSection
from thinkrec.data.readers.columns import Kind, read_parquet, take, take_optional
from thinkrec.data.readers.tables import Tables
from thinkrec.errors import DataError


def read(settings: DataSection) -> Tables:
    """Read user_id, item_id, ts with rating and/or label, split where given; items with item_id, title, and where given text, categories
    and ts, when the text was written.
    """
    root = Path(settings.path)
    return Tables(settings.path, _interactions(root), _items(root / "items.parquet"))


def _interactions(root: Path) -> pa.Table:
    path = root / "interactions" if (root / "interactions").is_dir() else root / "interactions.parquet"
    source, table = str(path), read_parquet(path)
    columns = {"row": pa.chunked_array([np.arange(len(table))])}
    columns |= {name: take(table, name, kind, source) for name, kind in (("user_id", Kind.ID), ("item_id", Kind.ID), ("ts", Kind.TIME))}
    kinds = {"rating": Kind.NUMBER, "label": Kind.INTEGER, "split": Kind.TEXT}
    columns |= {name: take(table, name, kind, source) for name, kind in kinds.items() if name in table.column_names}
    if "rating" not in columns and "label" not in columns:
        listed = ", ".join(table.column_names)
        raise DataError(f"neither 'rating' nor 'label' is among the columns {listed}", source, "add rating: numbers, or label: 0 or 1")
    return pa.table(columns)


def _items(path: Path) -> pa.Table:
    source, table = str(path), read_parquet(path)
    columns = {
        "item_id": take(table, "item_id", Kind.ID, source),
        "title": take(table, "title", Kind.TEXT, source),
        "text": take_optional(table, "text", Kind.TEXT, source),
        "categories": take_optional(table, "categories", Kind.WORDS, source),
    }
    return pa.table(columns | {name: take(table, name, Kind.TIME, source) for name in ("ts",) if name in table.column_names})
