"""The global time split: everything before the first cut is train, everything from the second on is test.

One cut for all users, so no model is fitted on rows later than those it is judged on (docs/method.md 1).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from thinkrec.artefacts.ingest import LATEST_MS, SPLITS
from thinkrec.config.data import SplitSection
from thinkrec.errors import ConfigError, DataError

NUM_BINS = 2**16  # three rounds of them tell any millisecond of 2,000 years


@dataclass(frozen=True)
class Cuts:
    """Milliseconds UTC: valid begins at `valid_from`, test at `test_from`; a row at a cut belongs to the later side."""

    valid_from: int
    test_from: int


@dataclass(frozen=True)
class Span:
    """How many rows there are, and the first and last of their times."""

    num_rows: int
    oldest: int
    newest: int


@dataclass(frozen=True)
class Window:
    """NUM_BINS bins of `width` milliseconds each, from `start` on."""

    start: int
    width: int


Histogram = Callable[[Window], NDArray[np.int64]]  # how many of all rows' times lie in each bin


def assign(rows: pl.DataFrame, cuts: Cuts | None) -> pl.DataFrame:
    """Rows with the `split` of their `ts`; without cuts they keep the one they have."""
    if cuts is None:
        return rows
    train, valid, test = (pl.lit(name) for name in SPLITS)
    before_test = pl.when(pl.col("ts") < cuts.test_from).then(valid).otherwise(test)
    return rows.with_columns(split=pl.when(pl.col("ts") < cuts.valid_from).then(train).otherwise(before_test))


def find_cuts(span: Span, histogram: Histogram, settings: SplitSection) -> Cuts:
    """The cuts of the settings' dates, or where there are none of their quantiles of all times, by exact counting.

    Raises ConfigError if they are not in order.
    """

    def cut(date: str, quantile: float, key: str) -> int:
        if date:
            return millis(date, key)
        rank = int(quantile * span.num_rows)
        return _kth(rank, span, histogram) if rank < span.num_rows else span.newest + 1

    cuts = Cuts(
        cut(settings.valid_from, settings.valid_quantile, "split.valid_from"),
        cut(settings.test_from, settings.test_quantile, "split.test_from"),
    )
    if cuts.valid_from > cuts.test_from:
        raise ConfigError(f"valid would begin at {iso(cuts.valid_from)}, after test at {iso(cuts.test_from)}", "split", "order the cuts")
    return cuts


def count_times(ts: NDArray[np.int64], window: Window) -> NDArray[np.int64]:
    """How many times lie in each of the window's NUM_BINS bins."""
    place = (ts - window.start) // window.width
    return np.bincount(place[(place >= 0) & (place < NUM_BINS)], minlength=NUM_BINS)


def _kth(rank: int, span: Span, histogram: Histogram) -> int:
    """The time of this rank, counted from 0: the bin that holds it is cut into bins again until it is a millisecond wide."""
    window = Window(span.oldest, -(-(span.newest + 1 - span.oldest) // NUM_BINS))
    while True:
        below = np.cumsum(histogram(window))
        place = int(np.searchsorted(below, rank, side="right"))
        start = window.start + place * window.width
        if window.width == 1:
            return start
        rank -= int(below[place - 1]) if place else 0
        window = Window(start, -(-window.width // NUM_BINS))


@dataclass(frozen=True)
class Begins:
    """The splits of some rows: how many rows each has, the time of its first one, and rows whose split has none of the known names."""

    num_rows: Mapping[str, int] = field(default_factory=dict)
    first_ts: Mapping[str, int] = field(default_factory=dict)
    num_unknown: int = 0
    unknown: tuple[int, str | None] = (0, None)  # row and name of the first of them

    @classmethod
    def of(cls, rows: pl.DataFrame) -> Begins:
        """Of rows with `ts`, `split`, `row`."""
        known = rows.filter(pl.col("split").is_in(SPLITS)).group_by("split").agg(pl.len(), pl.col("ts").min())
        strange = rows.filter(~pl.col("split").is_in(SPLITS).fill_null(False)).sort("row").select("row", "split")
        counts = {name: (number, ts) for name, number, ts in known.iter_rows()}
        numbers, firsts = ({name: pair[at] for name, pair in counts.items()} for at in (0, 1))
        return cls(numbers, firsts, len(strange), strange.row(0) if len(strange) else (0, None))

    def __add__(self, other: Begins) -> Begins:
        firsts = [one.first_ts for one in (self, other)]
        return Begins(
            {name: self.num_rows.get(name, 0) + other.num_rows.get(name, 0) for name in SPLITS},
            {name: min(first[name] for first in firsts if name in first) for name in SPLITS if any(name in first for first in firsts)},
            self.num_unknown + other.num_unknown,
            min((one.unknown for one in (self, other) if one.num_unknown), default=(0, None), key=lambda first: first[0]),
        )


def refuse_splits(begins: Begins, cuts: Cuts | None) -> None:
    """Raise DataError for rows of an unknown split, and for a split without rows."""
    if begins.num_unknown:
        row, name = begins.unknown
        what = f"{begins.num_unknown} rows are in none of {', '.join(SPLITS)}; the first is in {name!r}"
        raise DataError(what, f"interactions: split of row {row}", "rename the splits")
    where, fix = "as given by the source", 'name every split in the source, or use split.mode = "time"'
    if cuts:
        where = f"cuts at {iso(cuts.valid_from)} and {iso(cuts.test_from)}"
        fix = "move split.valid_from and split.test_from, or the quantiles"
    for name in SPLITS:
        if not begins.num_rows.get(name):
            raise DataError(f"the {name} split is empty", where, fix)


def refuse_no_split(columns: Collection[str]) -> None:
    """Raise DataError where the splits should be given and the log has no such column."""
    if "split" not in columns:
        raise DataError("split.mode is \"given\", but the source has no column 'split'", "interactions", 'use split.mode = "time"')


def iso(ts: int) -> str:
    """Milliseconds as a date and time in UTC."""
    return datetime.fromtimestamp(ts / 1000, UTC).isoformat(timespec="seconds")


def millis(date: str, key: str) -> int:
    """An ISO date of the run file's `key` as milliseconds; without a zone it is UTC. Raises ConfigError."""
    try:
        moment = datetime.fromisoformat(date)
    except ValueError:
        raise ConfigError(f"{date!r} is not an ISO date", key, "write it as 2002-04-01 or 2002-04-01T12:00:00+00:00") from None
    ts = int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    if not 0 <= ts < LATEST_MS:
        raise ConfigError(f"{date!r} is not between 1970 and 2100", key, "name a date where there are rows")
    return ts
