"""The later passes of `ingest`: one bucket of users at a time, each a pure function of the spill that may be done again anywhere.

Steps decide which rows there are and leave them in order of (user_id, ts, row); `Finish` splits, audits, measures and writes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from thinkrec.artefacts.ingest import COUNTS, INTERACTIONS, write_bucket
from thinkrec.config.data import DataSection
from thinkrec.data.arrival import Scale
from thinkrec.data.audit.log import Finding, Suspects, audit
from thinkrec.data.filters import active, select
from thinkrec.data.fingerprint import Part, measure
from thinkrec.data.labels import Births, label, with_negatives
from thinkrec.data.spill import Spill
from thinkrec.data.split import Begins, Cuts, Window, assign, count_times

Ints = NDArray[np.int64]
GATHERED, ACTIVE, DRAWN = "gathered", "active", "drawn"  # what the steps leave
SHORT = "negatives of users who have met too many items"
NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Tally:
    """What a step left in one bucket; `items` are the places of those that occur, with their rows and the time of their first."""

    left_out: Mapping[str, int]
    num_rows: int
    span: tuple[int, int]
    items: Ints
    num_by_item: Ints
    first_ts: Ints

    @classmethod
    def of(cls, rows: pl.DataFrame, left_out: Mapping[str, int]) -> Tally:
        by_item = rows.group_by("item").agg(pl.len(), pl.col("ts").min())
        columns = [by_item[name].to_numpy().astype(np.int64) for name in ("item", "len", "ts")]
        times = rows["ts"].to_numpy()
        span = (int(times.min()), int(times.max())) if len(times) else (NEVER, -NEVER)
        return cls(left_out, len(rows), span, *columns)


class Tallies:
    """The tallies of all buckets after one step, added up as they come."""

    def __init__(self, num_items: int) -> None:
        self.num_rows, self.span = 0, (NEVER, -NEVER)
        self.left_out: dict[str, int] = {}
        self.num_by_item, self.first_ts = np.zeros(num_items, np.int64), np.full(num_items, NEVER)

    def add(self, tally: Tally) -> None:
        self.num_rows += tally.num_rows
        self.span = (min(self.span[0], tally.span[0]), max(self.span[1], tally.span[1]))
        self.left_out = {rule: self.left_out.get(rule, 0) + number for rule, number in tally.left_out.items()}
        self.num_by_item[tally.items] += tally.num_by_item
        self.first_ts[tally.items] = np.minimum(self.first_ts[tally.items], tally.first_ts)


@dataclass(frozen=True)
class Gather:
    """The first step: a bucket's rows from all blocks, labelled, and those that the run file asks for whatever others do."""

    spill: Spill
    num_blocks: int
    num_buckets: int
    settings: DataSection
    highest: float  # rating of the log

    def __call__(self, bucket: int) -> Tally:
        rows = self.spill.read_blocks(self.num_blocks, bucket, self.num_buckets)
        labelled = rows.with_columns(label=label(rows.columns, self.settings, self.highest))
        kept, left_out = select(labelled, self.settings)
        self.spill.write_bucket(GATHERED, bucket, kept)
        return Tally.of(kept, left_out)


@dataclass(frozen=True)
class Activity:
    """The step of data.min_rows."""

    spill: Spill
    num_by_item: Ints = field(repr=False)
    min_rows: int

    def __call__(self, bucket: int) -> Tally:
        kept, left_out = active(self.spill.read_bucket(GATHERED, bucket), self.num_by_item, self.min_rows)
        self.spill.write_bucket(ACTIVE, bucket, kept)
        return Tally.of(kept, left_out)


@dataclass(frozen=True)
class Negatives:
    """The step of data.label_rule = "implicit"; reads what step `before` left."""

    spill: Spill
    before: str
    births: Births = field(repr=False)
    mean_each: int
    seed: int

    def __call__(self, bucket: int) -> Tally:
        rows, num_short = with_negatives(self.spill.read_bucket(self.before, bucket), self.births, self.mean_each, self.seed)
        self.spill.write_bucket(DRAWN, bucket, rows)
        return Tally.of(rows, {SHORT: num_short})


@dataclass(frozen=True)
class CountTimes:
    """How many times of a bucket lie in each bin of a window."""

    spill: Spill
    step: str
    window: Window

    def __call__(self, bucket: int) -> Ints:
        return count_times(self.spill.read_bucket(self.step, bucket, ["ts"])["ts"].to_numpy(), self.window)


@dataclass(frozen=True)
class FindBegins:
    """The splits of a bucket."""

    spill: Spill
    step: str
    cuts: Cuts | None

    def __call__(self, bucket: int) -> Begins:
        return Begins.of(assign(self.spill.read_bucket(self.step, bucket, ["ts", "split", "row"]), self.cuts))


@dataclass(frozen=True)
class Finished:
    """What one bucket adds to the artefact's tables and figures."""

    part: Part
    findings: Sequence[Finding]
    scale: Scale
    counts: pa.Table  # COUNTS


@dataclass(frozen=True)
class Finish:
    """The last pass: a bucket's INTERACTIONS, written below `uri`, and what they add."""

    spill: Spill
    step: str
    uri: str
    item_ids: pa.Array = field(repr=False)
    cuts: Cuts | None
    suspects: Suspects = field(repr=False)

    def __call__(self, bucket: int) -> Finished:
        rows = assign(self.spill.read_bucket(self.step, bucket), self.cuts)
        named, done = finish(rows, bucket, self.item_ids, self.suspects)
        if len(named):
            write_bucket(self.uri, bucket, named.to_arrow().cast(INTERACTIONS))
        return done


def finish(rows: pl.DataFrame, bucket: int, item_ids: pa.Array, suspects: Suspects) -> tuple[pl.DataFrame, Finished]:
    """The INTERACTIONS of a bucket's rows (spill.ROWS, with their split), and what they add."""
    part, scale = measure(rows), Scale.of(rows["rating"])
    named = rows.with_columns(item_id=pl.Series(item_ids, dtype=pl.String).gather(rows["item"])).select(INTERACTIONS.names)
    return named, Finished(part, audit(named, suspects), scale, count(named.with_columns(bucket=pl.lit(bucket))))


def count(rows: pl.DataFrame) -> pa.Table:
    """Train rows and likes of each item in each bucket, so that any stage can tell an item's rate without one bucket's users."""
    train = rows.filter(pl.col("split") == "train").group_by("item_id", "bucket")
    counted = train.agg(num_rows=pl.len(), num_likes=pl.col("label").sum().cast(pl.Int32)).sort("item_id", "bucket")
    return counted.to_arrow().cast(COUNTS)
