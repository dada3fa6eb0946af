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
ROUNDING = 1e-12  # sums in another order are not another gap


class GroupMeans(TypedDict):
    """The mean of a metric over the users of a group, by scorer."""

    group: str
    num_users: int
    means: dict[str, EstimateCell]


class GapCell(EstimateCell):
    """How far groups are apart, which is never below 0, beside the control: the same users shuffled among the groups.

    by_chance: the mean gap of the shuffled; p: how often theirs is as wide, the sample itself counted once.
    """

    by_chance: float
    p: float


class Grouped(TypedDict):
    """All groups, and by scorer the mean of the best served group minus that of the worst, of those that have MIN_USERS."""

    groups: list[GroupMeans]
    gap: dict[str, GapCell]


@dataclass(frozen=True)
class Gap:
    """The largest mean over a group of users minus the smallest; which groups these are is found anew in every resample.

    values (n,) by user; group (n,): his place, -1 for users who are left out.
    """

    values: Array
    group: Ints

    @property
    def num_users(self) -> int:
        return int((self.group >= 0).sum())

    @property
    def num_dropped(self) -> int:
        return len(self.group) - self.num_users

    def at(self, times: Array) -> float:
        sums, counts = (np.bincount(self.group + 1, drawn)[1:] for drawn in (times * self.values, times))
        return float(np.ptp(np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)))

    def shuffled(self, num: int, seed: int) -> Array:
        """The gap where users are dealt to the groups at random, (num,) times."""
        rng, kept, once = np.random.default_rng([seed, 1]), self.group >= 0, np.ones(self.num_users)
        return np.array([Gap(rng.permutation(self.values[kept]), self.group[kept]).at(once) for _ in range(num)])


def by_group(values: Mapping[str, Array], group: Ints, labels: Sequence[str], num_bootstrap: int, seed: int) -> Grouped:
    """values: a metric of every user (n,) by scorer; group (n,): places in `labels`, each of which somebody is in."""
    sizes = np.bincount(group, minlength=len(labels))
    rows = [GroupMeans(group=label, num_users=int(size), means={}) for label, size in zip(labels, sizes, strict=True)]
    large = sizes >= MIN_USERS
    among = np.where(large, np.cumsum(large) - 1, -1)[group]
    gap = dict[str, GapCell]()
    for scorer, own in values.items():
        statistics: dict[str, Statistic] = {label: UserMean(own, (group == n).astype(np.float64)) for n, label in enumerate(labels)}
        apart = Gap(own, among)
        if large.sum() > 1:
            statistics[GAP] = apart
        found = resample(statistics, len(own), num_bootstrap, seed).estimates()
        if GAP in found:
            chance = apart.shuffled(num_bootstrap, seed)
            as_wide = np.count_nonzero(chance >= apart.at(np.ones(len(own))) - ROUNDING)
            p = float((1 + as_wide) / (1 + num_bootstrap))
            gap[scorer] = GapCell(**estimate_cell(found[GAP]), by_chance=float(chance.mean()), p=p)
        for row in rows:
            row["means"][scorer] = estimate_cell(found[row["group"]])
    return {"groups": rows, "gap": gap}


def spans(counts: Ints) -> tuple[Ints, list[str]]:
    """Which third of the users each is in by a count (n,), equal counts in one, and what the thirds hold; empty thirds are left out."""
    cuts = np.unique(np.quantile(counts, np.arange(1, NUM_SPANS) / NUM_SPANS, method="lower"))
    third = np.unique(np.searchsorted(cuts, counts), return_inverse=True)[1]
    return third, [f"{counts[third == n].min()} to {counts[third == n].max()}" for n in range(third.max() + 1)]
