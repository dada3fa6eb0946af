"""A metric in groups of users, and how far the groups are apart: does a recommender serve some users worse than others?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from thinkrec.evaluate.metrics.intervals import MIN_USERS, resample
from thinkrec.evaluate.metrics.ranking import Statistic, UserMean
from thinkrec.evaluate.metrics.score_counts import Array
from thinkrec.evaluate.metrics.table import EstimateCell, estimate_cell

Ints = NDArray[np.integer]
GAP = "gap"
NUM_SPANS = 3


class GroupMeans(TypedDict):
    """The mean of a metric over the users of a group, by scorer."""

    group: str
    num_users: int
    means: dict[str, EstimateCell]


class Grouped(TypedDict):
    """All groups, and by scorer the mean of the best served group minus that of the worst, of those that have MIN_USERS."""

    groups: list[GroupMeans]
    gap: dict[str, EstimateCell]


@dataclass(frozen=True)
class Gap:
    """The mean over one group of users minus that over another."""

    best: UserMean
    worst: UserMean

    num_dropped = 0

    @property
    def num_users(self) -> int:
        return self.best.num_users + self.worst.num_users

    def at(self, times: Array) -> float:
        return self.best.at(times) - self.worst.at(times)


def by_group(values: Mapping[str, Array], group: Ints, labels: Sequence[str], num_bootstrap: int, seed: int) -> Grouped:
    """values: a metric of every user (n,) by scorer; group (n,): places in `labels`, each of which somebody is in."""
    rows = [GroupMeans(group=label, num_users=int((group == n).sum()), means={}) for n, label in enumerate(labels)]
    gap = dict[str, EstimateCell]()
    for scorer, own in values.items():
        means = {label: UserMean(own, (group == n).astype(np.float64)) for n, label in enumerate(labels)}
        large = sorted((mean for mean in means.values() if mean.num_users >= MIN_USERS), key=lambda mean: mean.at(np.ones(len(own))))
        statistics: dict[str, Statistic] = {**means}
        if len(large) > 1:
            statistics[GAP] = Gap(large[-1], large[0])
        found = resample(statistics, len(own), num_bootstrap, seed).estimates()
        gap |= {scorer: estimate_cell(found[GAP])} if GAP in found else {}
        for row in rows:
            row["means"][scorer] = estimate_cell(found[row["group"]])
    return {"groups": rows, "gap": gap}


def spans(counts: Ints) -> tuple[Ints, list[str]]:
    """Which third of the users each is in by a count (n,), equal counts in one, and what the thirds hold; empty thirds are left out."""
    cuts = np.unique(np.quantile(counts, np.arange(1, NUM_SPANS) / NUM_SPANS, method="lower"))
    third = np.unique(np.searchsorted(cuts, counts), return_inverse=True)[1]
    return third, [f"{counts[third == n].min()} to {counts[third == n].max()}" for n in range(third.max() + 1)]
