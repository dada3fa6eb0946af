"""What the stage ingest makes of a source, in this process, as tables; and logs written as it writes them. Not a test itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from thinkrec.artefacts.ingest import COUNTS_FILE, INTERACTIONS, read_items, write_bucket, write_fingerprint
from thinkrec.artefacts.tables import write_table
from thinkrec.config.data import DataSection, SplitSection
from thinkrec.data.audit.log import Finding
from thinkrec.data.buckets import count
from thinkrec.data.ingest import build, open_source
from thinkrec.data.readers.source import Batch, Source
from thinkrec.data.spill import with_bucket


@dataclass(frozen=True)
class Ingested:
    """An artefact's tables; interactions in order of `row`."""

    folder: Path
    interactions: pl.DataFrame
    items: pl.DataFrame
    quarantine: pl.DataFrame
    facts: dict[str, Any]
    findings: Sequence[Finding]
    doubts: Sequence[str]


def ingest_here(
    folder: Path, data: DataSection, split: SplitSection | None = None, seed: int = 7, source: Source | None = None, mapper: Any = map
) -> Ingested:
    """Ingest the source of these settings, or this one, into a folder."""
    built = build(source or open_source(data, seed), data, split or SplitSection(), seed, str(folder), mapper)
    files = sorted(folder.glob("interactions/*/*.parquet"))
    rows = pl.concat([pl.read_parquet(file, hive_partitioning=False) for file in files]).sort("row")
    quarantine = pl.concat([pl.read_parquet(file) for file in sorted(folder.glob("quarantine/*.parquet"))])
    return Ingested(folder, rows, read_items(folder), quarantine, built.facts, built.findings, built.doubts)


def source_of(rows: pa.Table, items: pa.Table, batch_rows: int = 10**9, truth: pa.Table | None = None) -> Source:
    """A source that holds these tables, its log in batches."""
    batches = (Batch(rows.slice(start, batch_rows)) for start in range(0, max(1, rows.num_rows), batch_rows))
    return Source("here", batches, iter([Batch(items)]), truth)


def write_log(folder: Path, rows: pl.DataFrame, num_buckets: int) -> None:
    """Rows (INTERACTIONS, in any order) as the buckets, counts and fingerprint of an ingest artefact."""
    bucketed = with_bucket(rows, num_buckets)
    for (bucket,), part in bucketed.partition_by("bucket", as_dict=True).items():
        ordered = part.sort("user_id", "ts", "row").select(INTERACTIONS.names)
        write_bucket(str(folder), int(bucket), ordered.to_arrow().cast(INTERACTIONS))
    write_table(folder / COUNTS_FILE, count(bucketed))
    write_fingerprint(folder, {"num_buckets": num_buckets})
