"""A prepared data set: {train,valid,test}.parquet with its own split, and items.parquet.

Columns: row_id, uid, iid, label, timestamp in seconds; iid, title, genres ("A|B"), plot. Histories that stand in the rows are not read:
they are slices of the log (D38), and `row_id` keeps the order of rows of one second.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from thinkrec.config import DataSection
from thinkrec.data.readers.columns import Kind, read_parquet, take, take_optional
from thinkrec.data.readers.tables import Tables
from thinkrec.data.schema import SPLITS

MS_PER_S = 1000


def read(settings: DataSection) -> Tables:
    """Read the three splits and the items of the folder `data.path`."""
    root = Path(settings.path)
    interactions = pa.concat_tables([_split(root / f"{name}.parquet", name) for name in SPLITS])
    return Tables(settings.path, interactions.sort_by("row"), _items(root / "items.parquet"))


def _split(path: Path, name: str) -> pa.Table:
    source, table = str(path), read_parquet(path)
    return pa.table(
        {
            "row": take(table, "row_id", Kind.INTEGER, source),
            "user_id": take(table, "uid", Kind.ID, source),
            "item_id": take(table, "iid", Kind.ID, source),
            "ts": pc.multiply(take(table, "timestamp", Kind.INTEGER, source), MS_PER_S),
            "label": take(table, "label", Kind.INTEGER, source),
            "split": pa.array([name] * len(table), pa.string()),
        }
    )


def _items(path: Path) -> pa.Table:
    source, table = str(path), read_parquet(path)
    return pa.table(
        {
            "item_id": take(table, "iid", Kind.ID, source),
            "title": take(table, "title", Kind.TEXT, source),
            "text": take_optional(table, "plot", Kind.TEXT, source),
            "categories": pc.split_pattern(take_optional(table, "genres", Kind.TEXT, source), "|"),
        }
    )
