"""The stage `ingest`: reader, validation, split and leak audit, then the one shuffle of the whole system.

`prepare` is a pure function of the source. The shuffle hash-partitions its rows by user and sorts each bucket by (user_id, ts, row), so
that every history is a slice of one bucket and every later stage is a streaming map. What comes out (artefacts/ingest.py) is byte for byte
the same for the same source and settings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl
import pyarrow as pa

from thinkrec.artefacts.ingest import (
    COUNTS,
    COUNTS_FILE,
    INTERACTIONS,
    ITEMS,
    ITEMS_FILE,
    QUARANTINE_FILE,
    TRUTH,
    TRUTH_FILE,
    USERS,
    USERS_FILE,
    bucket_of,
    write_audit,
    write_fingerprint,
)
from thinkrec.artefacts.ingest import write_bucket as write_sorted
from thinkrec.artefacts.tables import write_table
from thinkrec.config.data import DataSection, SplitSection
from thinkrec.data import fingerprint
from thinkrec.data.arrival import doubts, refuse_one_label
from thinkrec.data.audit.log import Finding, audit, enforce
from thinkrec.data.filters import select
from thinkrec.data.labels import with_negatives
from thinkrec.data.readers import amazon, canonical, movielens, prepared, recbole, user_columns, world, yelp
from thinkrec.data.readers.source import Source, Tables, collect
from thinkrec.data.split import assign
from thinkrec.data.validate import validate
from thinkrec.distributed.placement import await_room
from thinkrec.errors import StageFailed
from thinkrec.events import Ingested, Noted, Warned
from thinkrec.job import Job

MAX_LIKE_RATE_MOVE = 0.05  # between train and a later split; more is worth a warning
BLOCK_ROWS = 1_000_000
READERS: Mapping[str, Callable[[DataSection], Source]] = {
    "movielens1m": movielens.read_1m,
    "movielens_csv": movielens.read_csv,
    "amazon2018": amazon.read_2018,
    "amazon2023": amazon.read_2023,
    "yelp": yelp.read,
    "recbole": recbole.read,
    "csv": user_columns.read_text,
    "jsonl": user_columns.read_text,
    "parquet": user_columns.read_table,
    "delta": user_columns.read_table,
    "iceberg": user_columns.read_table,
    "canonical": canonical.read,
    "prepared": prepared.read,
}


@dataclass(frozen=True)
class Prepared:
    """Everything the artefact will hold, in memory: the tables of artefacts/ingest.py and what the audit found."""

    interactions: pl.DataFrame
    items: pa.Table
    users: pa.Table
    quarantine: pa.Table
    truth: pa.Table | None
    findings: Sequence[Finding]
    left_out: Mapping[str, int]  # rows that the run file did not ask for, by reason
    doubts: Sequence[str] = ()  # what looks wrong although every row is sound


def run(job: Job) -> None:
    """Fill the draft with the files listed in artefacts/ingest.py."""
    data, split = job.config.data, job.config.split
    tables = read(data, job.config.run.seed)
    for note in tables.notes:
        job.report(Noted(note))
    ready = prepare(tables, data, split, job.config.run.seed)
    leaks = enforce(ready.findings, split.allow_leaks)
    rows = with_bucket(ready.interactions, data.num_buckets)
    shuffle(rows, data.num_buckets, job.draft.shared())
    outputs = {
        ITEMS_FILE: ready.items,
        USERS_FILE: ready.users,
        COUNTS_FILE: count(rows),
        TRUTH_FILE: ready.truth,
        QUARANTINE_FILE: ready.quarantine,
    }
    for name, table in outputs.items():
        if table is not None:
            write_table(job.draft.local() / name, table)
    facts = fingerprint.take(ready.interactions, ready.items, ready.quarantine)
    facts |= {"num_buckets": data.num_buckets, "left_out": ready.left_out, "notes": list(tables.notes)}
    write_audit(job.draft.local(), [asdict(finding) for finding in ready.findings])
    write_fingerprint(job.draft.local(), facts)
    num_leaks = sum(finding.num_rows for finding in ready.findings if finding.severity == "stop")
    job.draft.figures |= fingerprint.headline(facts) | {"num_leaks": num_leaks}
    for text in [*warnings(facts), *ready.doubts, *leaks]:
        job.report(Warned(text))
    job.report(Ingested(job.draft.figures))


def read(data: DataSection, seed: int) -> Tables:
    """What the source of the run file holds."""
    return collect(READERS[data.source](data) if data.source != "world" else world.read(data, seed))


def prepare(tables: Tables, data: DataSection, split: SplitSection, seed: int) -> Prepared:
    """Validate, label, split and audit; raises DataError or ConfigError. Rows come out in order of `row`."""
    valid = validate(tables, data)
    rows, left_out = select(pl.DataFrame(valid.interactions).sort("row"), data)
    if data.label_rule == "implicit":
        rows, num_short = with_negatives(rows, data.num_negatives, seed)
        left_out |= {"negatives of users who have met too many items": num_short} if num_short else {}
    if "rating" not in rows.columns:
        rows = rows.with_columns(rating=pl.lit(None, pl.Float32))
    rows = assign(rows, split).select(INTERACTIONS.names)
    refuse_one_label(rows, data)
    users = rows.select(pl.col("user_id").unique().sort()).to_arrow().cast(USERS)
    truth = None if tables.truth is None else pl.DataFrame(tables.truth).join(rows, on="row", how="semi").to_arrow().cast(TRUTH)
    items = pl.DataFrame(valid.items)
    found, wondered = audit(rows, items), doubts(rows, items, data)
    return Prepared(rows, valid.items.select(ITEMS.names), users, valid.quarantine, truth, found, left_out, wondered)


def with_bucket(interactions: pl.DataFrame, num_buckets: int) -> pl.DataFrame:
    """The rows with the bucket of their user."""
    users = interactions["user_id"].unique()
    buckets = pl.DataFrame({"user_id": users, "bucket": [bucket_of(user, num_buckets) for user in users]})
    return interactions.join(buckets, on="user_id", how="left", maintain_order="left")


def count(rows: pl.DataFrame) -> pa.Table:
    """Train rows and likes of each item in each bucket, so that any stage can tell an item's rate without one bucket's users."""
    train = rows.filter(pl.col("split") == "train").group_by("item_id", "bucket")
    counted = train.agg(num_rows=pl.len(), num_likes=pl.col("label").sum().cast(pl.Int32)).sort("item_id", "bucket")
    return counted.to_arrow().cast(COUNTS)


def shuffle(rows: pl.DataFrame, num_buckets: int, uri: str) -> None:
    """Write `rows` into `uri` by bucket, through Ray Data; raises StageFailed if a row were lost or doubled."""
    import ray

    await_room("the shuffle of the interactions")
    table = rows.to_arrow()
    blocks = [table.slice(start, BLOCK_ROWS) for start in range(0, len(table), BLOCK_ROWS)]
    by_bucket = ray.data.from_arrow(blocks).groupby("bucket", num_partitions=num_buckets)
    parts = by_bucket.map_groups(write_bucket, fn_kwargs={"uri": uri}, batch_format="pyarrow").take_all()
    written = sum(part["num_rows"] for part in parts)
    if written != len(table):
        raise StageFailed(f"{len(table)} rows went into the shuffle, {written} came out", uri, "run the same command again")


def write_bucket(rows: pa.Table, uri: str) -> pa.Table:
    """Write the rows of one bucket, sorted by (user_id, ts, row), under its name; returns how many there were."""
    bucket = rows["bucket"][0].as_py()
    ordered = pl.DataFrame(rows.select(INTERACTIONS.names)).sort("user_id", "ts", "row").to_arrow().cast(INTERACTIONS)
    write_sorted(uri, bucket, ordered)
    return pa.table({"num_rows": [len(ordered)]})


def warnings(facts: dict[str, Any]) -> list[str]:
    """What the user should know although the run goes on."""
    rates = {name: split["like_rate"] for name, split in facts["splits"].items()}
    moved = [name for name, rate in rates.items() if abs(rate - rates["train"]) > MAX_LIKE_RATE_MOVE]
    return [
        *(f"the like rate moves from {rates['train']:.3f} in train to {rates[name]:.3f} in {name}" for name in moved),
        *(f"quarantined: {count} rows, {reason}" for reason, count in facts["quarantined"].items()),
    ]
