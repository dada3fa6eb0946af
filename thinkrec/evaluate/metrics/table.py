"""Score columns over the same rows side by side: metrics with intervals, and paired differences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NotRequired, TypedDict

import polars as pl

from thinkrec.evaluate.metrics.intervals import Difference, Estimate, Resampled, holm, resample
from thinkrec.evaluate.metrics.ranking import Profile, user_statistics, user_table

KS = (1, 5, 10)
HEADLINE_METRICS = ("auc", "uauc", "ndcg@5", "map@5")  # what tables show; reports hold all
TWO_NUMBER_BASELINE = "user_item_rate"  # what every claim is measured against
ENCODERS = ("mf", "lightgcn", "sasrec")  # baselines that are learned
PRIOR = "prior"  # counting alone
MODEL = "model"  # in a run with a prior: what the language model says by itself, of the variant that serves


def with_prior(variant: str) -> str:
    """The name of the sum of the prior and a variant, as the user gets it."""
    return f"{PRIOR}+{variant}"


class Interval(TypedDict):
    """A figure of a report between the ends of its 95 % interval."""

    value: float | None
    low: float | None
    high: float | None


class EstimateCell(Interval):
    """An Estimate in a report."""

    num_users: int
    num_dropped: int


class DifferenceCell(Interval):
    """A Difference in a report."""

    p: float | None
    p_holm: float | None  # corrected for the comparisons in the same metric that stand beside it


def estimate_cell(found: Estimate) -> EstimateCell:
    """An Estimate as a report holds it."""
    return {"value": found.value, "low": found.low, "high": found.high, "num_users": found.num_users, "num_dropped": found.num_dropped}


def difference_cell(found: Difference) -> DifferenceCell:
    """A Difference as a report holds it, of a comparison that stands alone."""
    return {"value": found.value, "low": found.low, "high": found.high, "p": found.p, "p_holm": found.p}


class MetricRow(TypedDict):
    """Every metric of a scorer; reports of runs say its kind (model or baseline) and what it means."""

    name: str
    metrics: dict[str, EstimateCell]
    kind: NotRequired[str]
    meaning: NotRequired[str]


class DifferenceRow(TypedDict):
    """Every metric of a scorer minus that of another, paired by user."""

    name: str
    against: str
    metrics: dict[str, DifferenceCell]


class Measured(TypedDict):
    """What every report of scored rows holds."""

    num_rows: int
    num_users: int
    metrics: list[MetricRow]
    differences: list[DifferenceRow]


def measure(
    table: pl.DataFrame, names: Sequence[str], num_bootstrap: int, seed: int, profile: Profile = "standard"
) -> dict[str, Resampled]:
    """Every metric of every score column of a wide table (user_id, label, one column a scorer), resampled over the same users."""
    users = {name: user_table(table.select("user_id", "label", score=name), KS) for name in names}
    return measure_users(users, KS, num_bootstrap, seed, profile)


def measure_users(
    users: Mapping[str, pl.DataFrame], ks: Sequence[int], num_bootstrap: int, seed: int, profile: Profile
) -> dict[str, Resampled]:
    """The same from one user table a scorer, all of the same users."""
    return {name: resample(user_statistics(table, ks, profile), table.height, num_bootstrap, seed) for name, table in users.items()}


def metric_rows(measured: dict[str, Resampled]) -> list[MetricRow]:
    """One row a scorer: name and {metric: value, low, high, num_users, num_dropped}."""
    return [
        {"name": name, "metrics": {metric: estimate_cell(found) for metric, found in resampled.estimates().items()}}
        for name, resampled in measured.items()
    ]


def difference_rows(measured: dict[str, Resampled], pairs: Iterable[tuple[str, str]]) -> list[DifferenceRow]:
    """One row a pair (name, against): {metric: value, low, high, p, p_holm} of name - against."""
    rows: list[DifferenceRow] = [
        {
            "name": name,
            "against": against,
            "metrics": {metric: difference_cell(found) for metric, found in measured[name].minus(measured[against]).items()},
        }
        for name, against in pairs
        if name in measured and against in measured
    ]
    for metric in {metric: None for row in rows for metric in row["metrics"]}:
        cells = [row["metrics"][metric] for row in rows if metric in row["metrics"]]
        for cell, p_holm in zip(cells, holm([cell["p"] for cell in cells]), strict=True):
            cell["p_holm"] = p_holm
    return rows


def write_metrics(rows: Iterable[MetricRow], path: Path) -> None:
    """Metric rows as CSV: a line a scorer and metric."""
    flat = [{"name": row["name"], "metric": metric} | found for row in rows for metric, found in row["metrics"].items()]
    pl.DataFrame(flat, infer_schema_length=None).write_csv(path)
