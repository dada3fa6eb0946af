"""Which train rows a teacher is asked about, and which teacher: balanced over clusters and labels, the hard ones first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from thinkrec.artefacts.ingest import TRAIN
from thinkrec.config.generation import TracesSection
from thinkrec.data.counts import Log, history_counts, item_counts, rate
from thinkrec.data.interactions import Interactions, Policy
from thinkrec.data.scatter import scatter

Positions = NDArray[np.int64]


def askable(data: Interactions) -> Positions:
    """Positions of the train rows with something before them to reason about."""
    found: Positions = np.flatnonzero((data.split == TRAIN) & (np.arange(len(data)) > data.offsets[data.user]))
    return found


def choose(
    data: Interactions, positions: Positions, clusters: NDArray[np.int16], policy: Policy, settings: TracesSection, seed: int
) -> Positions:
    """Some of `positions`, as evenly as they allow from every cluster of `clusters`, one a user, and label, in random order.

    Of each such cell `hard_share` comes from the rows that `is_hard` marks, the rest from all. A grown log keeps the order of old rows.
    """
    num_wanted = min(settings.num_instances, int(settings.max_share * (data.split == TRAIN).sum()))
    positions = positions[np.argsort(scatter(data.row[positions], seed))]
    rows = pl.DataFrame(
        {
            "position": positions,
            "cluster": clusters[data.user[positions]],
            "label": data.label[positions],
            "hard": is_hard(data, policy)[positions],
        }
    )
    cell = ["cluster", "label"]
    turn, hard_turn = (pl.int_range(1, pl.len() + 1).over([*cell, *more]) for more in ([], ["hard"]))
    hard_share = settings.hard_share
    by_chance = turn / (1 - hard_share)  # infinite when all must be hard
    by_merit = pl.when("hard").then(hard_turn / hard_share).otherwise(float("inf"))
    ordered = rows.with_columns(due=pl.min_horizontal(by_chance, by_merit), turn=turn).sort("due", "turn", maintain_order=True)
    return ordered.with_columns(turn=turn).sort("turn", maintain_order=True).head(num_wanted)["position"].to_numpy()


def is_hard(data: Interactions, policy: Policy) -> NDArray[np.bool_]:
    """Whether a label-only model gets the row wrong: like rates of the item (in train, this row left out) and of the user (before it).

    Nothing is fitted, so no row is right for having been learned by heart; the rates are the report's own baseline (docs/method.md 14).
    """
    train = data.split == TRAIN
    visible = np.ones_like(train) if policy == "rolling" else train
    log = Log(data.user, data.item, data.label, train, visible, np.zeros((0, 2), np.int64))
    prior = log.like_rate
    if not 0 < prior < 1:
        return np.zeros(len(data), bool)
    odds = [np.log(p) - np.log1p(-p) for p in (rate(*item_counts(log), prior), rate(*history_counts(log), prior))]
    hard: NDArray[np.bool_] = (odds[0] + odds[1] > np.log(prior) - np.log1p(-prior)) != (data.label == 1)
    return hard


def share_out(rows: NDArray[np.int64], weights: Sequence[float], seed: int) -> NDArray[np.int64]:
    """For each row the number of its teacher, drawn by weight; a grown log changes no old row's teacher."""
    bounds = np.cumsum(weights) / np.sum(weights)
    found: NDArray[np.int64] = np.searchsorted(bounds, scatter(rows, seed) / 2.0**64, side="right")
    return np.minimum(found, len(weights) - 1)
