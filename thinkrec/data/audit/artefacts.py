"""The leak audit of what stages made of the log: whatever was counted or fitted must come from train alone.

The stages are built to keep to train; this looks at what they left, so that the user's own vectors, a foreign artefact or a fault of ours
is seen before an adapter learns from it, and stands in the report.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import polars as pl

from thinkrec.artefacts.clusters import SAMPLE_FILE
from thinkrec.artefacts.ingest import COUNTS_FILE, scan_interactions
from thinkrec.artefacts.traces import LESSONS_FILE, TRACES_FILE
from thinkrec.artefacts.vectors import Side, read_facts, scan_vectors
from thinkrec.data.audit.log import Check, Finding, Severity
from thinkrec.store.artefacts import Artefact

COUNT_KEY = ["item_id", "bucket"]


def audit_artefacts(inputs: Mapping[str, Artefact]) -> list[Finding]:
    """One finding a check whose artefact is among `inputs`: ingest, which must be, and encode, cluster, teacher, traces."""
    train = scan_interactions(inputs["ingest"].path()).filter(pl.col("split") == "train")
    findings = []
    for stage, name, check in CHECKS:
        file = inputs[stage].path(name) if stage in inputs else None
        if file and file.is_file():
            findings.append(check(train, pl.scan_parquet(file)))
    if "encode" in inputs:
        findings += _encoder(inputs["encode"], train)
    return findings


def counted_beyond_train(train: pl.LazyFrame, counts: pl.LazyFrame) -> pl.DataFrame:
    """Counts of an item's rows and likes that are not those of its train rows."""
    recounted = train.group_by("item_id", pl.col("bucket").cast(pl.Int16)).agg(in_train=pl.len(), likes_in_train=pl.col("label").sum())
    both = counts.join(recounted, on=COUNT_KEY, how="full", coalesce=True).filter(
        pl.col("num_rows").ne_missing(pl.col("in_train")) | pl.col("num_likes").ne_missing(pl.col("likes_in_train"))
    )
    return _collect(both.sort(COUNT_KEY))


def encoder_fitted_beyond_train(train: pl.LazyFrame, fitted: pl.LazyFrame) -> pl.DataFrame:
    """The encoder was fitted on another number of rows than train holds."""
    num_train = train.select(num_train_rows=pl.len())
    return _collect(fitted.join(num_train, how="cross").filter(pl.col("num_rows") != pl.col("num_train_rows")))


def vector_of_unseen_user(train: pl.LazyFrame, vectors: pl.LazyFrame) -> pl.DataFrame:
    """The vector of a user without a train row: whoever made it has seen more than train."""
    return _absent(vectors.select(user_id="id"), train, "user_id")


def vector_of_unseen_item(train: pl.LazyFrame, vectors: pl.LazyFrame) -> pl.DataFrame:
    """The vector of an item without a train row: whoever made it has seen more than train."""
    return _absent(vectors.select(item_id="id"), train, "item_id")


def clustered_beyond_train(train: pl.LazyFrame, sample: pl.LazyFrame) -> pl.DataFrame:
    """A user without a train row took part in finding the clusters (D5)."""
    return _absent(sample.select("user_id"), train, "user_id")


def lesson_beyond_train(train: pl.LazyFrame, lessons: pl.LazyFrame) -> pl.DataFrame:
    """The teacher was taught the answer of a row outside train."""
    return _absent(lessons.select("row"), train, "row")


def trace_beyond_train(train: pl.LazyFrame, traces: pl.LazyFrame) -> pl.DataFrame:
    """A trace to learn from was made for a row outside train: its verdict is that row's label."""
    return _absent(traces.select("row", "user_id", "verdict"), train, "row")


CHECKS = (  # stage, file, check
    ("ingest", COUNTS_FILE, Check(counted_beyond_train, "run ingest again in a new run.dir")),
    ("cluster", SAMPLE_FILE, Check(clustered_beyond_train, "find the clusters on users of train only")),
    ("teacher", LESSONS_FILE, Check(lesson_beyond_train, "teach the teacher train rows only")),
    ("traces", TRACES_FILE, Check(trace_beyond_train, "ask the teacher about train rows only")),
)
FITTED = Check(encoder_fitted_beyond_train, "fit the encoder on train rows only")
UNSEEN: tuple[tuple[Side, Callable[[pl.LazyFrame, pl.LazyFrame], pl.DataFrame]], ...] = (
    ("users", vector_of_unseen_user),
    ("items", vector_of_unseen_item),
)
RETRAIN = "train the encoder on train rows only, or know that its vectors come from elsewhere"


def _encoder(encode: Artefact, train: pl.LazyFrame) -> list[Finding]:
    """Vectors that were learned here never know more than train; towers of the user's own may by design, which is worth a warning."""
    folder = encode.path()
    facts = read_facts(folder)
    severity: Severity = "warn" if facts.source == "given" else "stop"
    findings = [Check(find, RETRAIN, severity)(train, scan_vectors(folder, side)) for side, find in UNSEEN]
    if facts.num_rows is not None:
        findings.append(FITTED(train, pl.LazyFrame({"num_rows": [facts.num_rows]})))
    return findings


def _absent(table: pl.LazyFrame, train: pl.LazyFrame, key: str) -> pl.DataFrame:
    """Rows of a table whose `key` no train row has. Memory holds the table's keys; the log streams past them."""
    known = train.select(key).join(table.select(key), on=key, how="semi").unique()
    return _collect(table.join(known, on=key, how="anti").sort(key))


def _collect(rows: pl.LazyFrame) -> pl.DataFrame:
    return rows.collect(engine="streaming")
