"""The global time split: everything before the first cut is train, everything from the second on is test.

One cut for all users, so no model is fitted on rows later than those it is judged on (docs/method.md 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from thinkrec.artefacts.ingest import LATEST_MS, SPLITS
from thinkrec.config.data import SplitSection
from thinkrec.errors import ConfigError, DataError


@dataclass(frozen=True)
class Cuts:
    """Milliseconds UTC: valid begins at `valid_from`, test at `test_from`; a row at a cut belongs to the later side."""

    valid_from: int
    test_from: int


def assign(interactions: pl.DataFrame, settings: SplitSection) -> pl.DataFrame:
    """Interactions with their `split`; raises DataError for an empty split or, in mode "given", for missing or unknown names."""
    if settings.mode == "given":
        _check_given(interactions)
        _refuse_empty(interactions, "as given by the source", 'name every split in the source, or use split.mode = "time"')
        return interactions
    cuts = find_cuts(interactions["ts"].to_numpy(), settings)
    split = pl.when(pl.col("ts") < cuts.valid_from).then(pl.lit(SPLITS[0])).when(pl.col("ts") < cuts.test_from).then(pl.lit(SPLITS[1]))
    assigned = interactions.with_columns(split=split.otherwise(pl.lit(SPLITS[2])))
    where = f"cuts at {iso(cuts.valid_from)} and {iso(cuts.test_from)}"
    _refuse_empty(assigned, where, "move split.valid_from and split.test_from, or the quantiles")
    return assigned


def find_cuts(ts: NDArray[np.int64], settings: SplitSection) -> Cuts:
    """The cuts of the settings' dates, or where there are none of their quantiles of `ts`; raises ConfigError if they are not in order."""
    cuts = Cuts(
        _cut(ts, settings.valid_from, settings.valid_quantile, "split.valid_from"),
        _cut(ts, settings.test_from, settings.test_quantile, "split.test_from"),
    )
    if cuts.valid_from > cuts.test_from:
        raise ConfigError(f"valid would begin at {iso(cuts.valid_from)}, after test at {iso(cuts.test_from)}", "split", "order the cuts")
    return cuts


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


def _cut(ts: NDArray[np.int64], date: str, quantile: float, key: str) -> int:
    if date:
        return millis(date, key)
    rank = int(quantile * len(ts))
    return int(np.partition(ts, rank)[rank]) if rank < len(ts) else int(ts.max()) + 1


def _check_given(interactions: pl.DataFrame) -> None:
    if "split" not in interactions.columns:
        raise DataError("split.mode is \"given\", but the source has no column 'split'", "interactions", 'use split.mode = "time"')
    unknown = interactions.filter(~pl.col("split").is_in(SPLITS).fill_null(False))
    if len(unknown):
        row = unknown.row(0, named=True)
        what = f"{len(unknown)} rows are in none of {', '.join(SPLITS)}; the first is in {row['split']!r}"
        raise DataError(what, f"interactions: split of row {row['row']}", "rename the splits")


def _refuse_empty(interactions: pl.DataFrame, where: str, fix: str) -> None:
    present = interactions["split"].unique().to_list()
    for name in SPLITS:
        if name not in present:
            raise DataError(f"the {name} split is empty", where, fix)
