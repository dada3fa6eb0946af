"""95 % user-bootstrap intervals and paired differences (D31: a step of .001 UAUC on 224 users is noise).

Users are drawn with replacement, whole histories at once, because rows of one user are not independent. The draw depends only on the seed
and the number of users: score columns over the same users are resampled alike, so their differences are paired by construction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from thinkrec.evaluate.metrics.ranking import Statistic
from thinkrec.evaluate.metrics.score_counts import Array

LEVEL = 0.95
MIN_USERS = 5  # resampling fewer users says nothing: one user alone would get an interval of width zero


@dataclass(frozen=True)
class Estimate:
    """A metric with its interval; None where it is not defined (one class only, no usable user)."""

    value: float | None
    low: float | None
    high: float | None
    num_users: int
    num_dropped: int


@dataclass(frozen=True)
class Difference:
    """Metric of one score column minus that of another, on the same resampled users; p is two-sided."""

    value: float | None
    low: float | None
    high: float | None
    p: float | None


@dataclass(frozen=True)
class Resampled:
    """The statistics of one score column with their values on every resample."""

    statistics: Mapping[str, Statistic]
    draws: Mapping[str, Array]
    num_users: int

    def estimates(self) -> dict[str, Estimate]:
        """Every metric with its interval."""
        return {
            name: Estimate(_number(self.value(name)), *_bounds(self._usable(name)), statistic.num_users, statistic.num_dropped)
            for name, statistic in self.statistics.items()
        }

    def minus(self, other: Resampled) -> dict[str, Difference]:
        """Paired differences self - other in the metrics that both have; both must be of the same rows and seed."""
        found = {}
        for name in (name for name in self.statistics if name in other.statistics):
            draws = self._usable(name) - other._usable(name)
            found[name] = Difference(_number(self.value(name) - other.value(name)), *_bounds(draws), _p_value(draws))
        return found

    def value(self, name: str) -> float:
        """The metric on the users as they are."""
        return self.statistics[name].at(np.ones(self.num_users))

    def _usable(self, name: str) -> Array:
        return self.draws[name] if self.statistics[name].num_users >= MIN_USERS else np.full_like(self.draws[name], np.nan)


def resample(statistics: Mapping[str, Statistic], num_users: int, num_bootstrap: int, seed: int) -> Resampled:
    """Evaluate every statistic on `num_bootstrap` draws of `num_users` users with replacement."""
    rng = np.random.default_rng(seed)
    draws = {name: np.empty(num_bootstrap) for name in statistics}
    for n in range(num_bootstrap):
        times = np.bincount(rng.integers(0, num_users, num_users), minlength=num_users).astype(np.float64)
        for name, statistic in statistics.items():
            draws[name][n] = statistic.at(times)
    return Resampled(statistics, draws, num_users)


def _bounds(draws: Array) -> tuple[float | None, float | None]:
    """The central 95 % of the resamples on which the metric is defined; nothing when that is fewer than half of them."""
    defined = draws[np.isfinite(draws)]
    if 2 * len(defined) < len(draws):
        return None, None
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _p_value(differences: Array) -> float | None:
    """Twice the smaller tail at zero, the sample itself counted once so that p is never 0."""
    defined = differences[np.isfinite(differences)]
    if 2 * len(defined) < len(differences):
        return None
    tail = min(np.count_nonzero(defined <= 0), np.count_nonzero(defined >= 0))
    return float(min(1.0, 2 * (1 + tail) / (1 + len(defined))))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """The p of each of several comparisons, corrected for their number (Holm 1979); None, where nothing was tested, counts for none."""
    tested = sorted((p, at) for at, p in enumerate(p_values) if p is not None)
    corrected, largest = list[float | None]([None] * len(p_values)), 0.0
    for rank, (p, at) in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - rank) * p))
        corrected[at] = largest
    return corrected


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None
