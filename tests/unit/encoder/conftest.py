"""The world of two tastes, as a log and as (train, valid, test) pairs; and an ingest folder of six rows."""

from __future__ import annotations

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tastes import planted_log

from thinkrec.artefacts.ingest import INTERACTIONS, TEST, TRAIN, VALID, write_fingerprint
from thinkrec.data.buckets import count
from thinkrec.encoder.coded_log import Log
from thinkrec.encoder.factors import Ratings

ROWS = [  # user, item, label, split
    ("u2", "i1", 1, "train"),
    ("u1", "i2", 0, "train"),
    ("u1", "i1", 1, "train"),
    ("u3", "i1", 0, "valid"),
    ("u1", "i3", 1, "valid"),
    ("u4", "i4", 1, "test"),
]


@pytest.fixture
def ingest(tmp_path):
    """An ingest folder with two buckets; neither rows nor ids stand in order."""
    users, items, labels, splits = zip(*ROWS, strict=True)
    table = pa.table(
        {"user_id": users, "item_id": items, "ts": range(6), "rating": pa.nulls(6, pa.float32()), "label": labels, "split": splits}
        | {"row": range(6)},
        schema=INTERACTIONS,
    )
    for bucket, places in enumerate(([5, 2, 0], [4, 3, 1])):
        folder = tmp_path / f"ingest/interactions/bucket={bucket:03d}"
        folder.mkdir(parents=True)
        pq.write_table(table.take(places), folder / "part-0.parquet")
    write_fingerprint(tmp_path / "ingest", {"num_buckets": 2})
    pq.write_table(pa.table({"item_id": ["i4", "i2", "i3", "i1"]}), tmp_path / "ingest/items.parquet")
    bucketed = pl.from_arrow(table).with_columns(bucket=pl.lit(0, pl.Int16))
    pq.write_table(count(bucketed), tmp_path / "ingest/counts.parquet")
    return tmp_path / "ingest"


@pytest.fixture(scope="session")
def log() -> Log:
    return planted_log()


@pytest.fixture(scope="session")
def pairs(log) -> tuple[Ratings, ...]:
    return tuple(log.ratings(log.positions(split)) for split in (TRAIN, VALID, TEST))
