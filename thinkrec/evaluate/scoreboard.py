"""Score columns over the same rows side by side: metrics with intervals, and paired differences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import polars as pl

from thinkrec.evaluate.intervals import Resampled, resample
from thinkrec.evaluate.ranking import Profile, statistics

KS = (1, 5, 10)


def measure(
    table: pl.DataFrame, names: Sequence[str], num_bootstrap: int, seed: int, profile: Profile = "standard"
) -> dict[str, Resampled]:
    """Every metric of every score column of a wide table (user_id, label, one column a scorer), resampled over the same users."""
    num_users = table["user_id"].n_unique()
    return {
        name: resample(statistics(table.select("user_id", "label", score=name), KS, profile), num_users, num_bootstrap, seed)
        for name in names
    }


def metric_rows(measured: dict[str, Resampled]) -> list[dict[str, Any]]:
    """One row a scorer: name and {metric: value, low, high, num_users, num_dropped}."""
    return [
        {"name": name, "metrics": {metric: asdict(found) for metric, found in resampled.estimates().items()}}
        for name, resampled in measured.items()
    ]


def difference_rows(measured: dict[str, Resampled], pairs: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
    """One row a pair (name, against): {metric: value, low, high, p} of name - against."""
    return [
        {
            "name": name,
            "against": against,
            "metrics": {metric: asdict(found) for metric, found in measured[name].minus(measured[against]).items()},
        }
        for name, against in pairs
        if name in measured and against in measured
    ]
