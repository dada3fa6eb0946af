"""The prior's last step: a logistic regression with a within-user pairwise term, in which every user counts the same.

    sum over rows BCE(score) + within_user * sum over pairs (liked, disliked) of a user BCE(score liked - score disliked)

with pairs weighed so that users count alike and all pairs together count as much as all rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]

PENALTY = 10.0  # of squared weights of standardised columns, against sums over rows
PAIRS_PER_ROW = 2
NUM_STEPS = 500


@dataclass(frozen=True)
class Pairs:
    """Rows of the same user, one liked and one disliked, and how much each pair counts; the weights' mean is 1."""

    liked: Ints
    disliked: Ints
    weight: Floats


@dataclass(frozen=True)
class Logistic:
    """score = (columns - mean) / deviation . weights + intercept; all (columns,) but the intercept."""

    mean: Floats
    deviation: Floats
    weights: Floats
    intercept: float

    def score(self, columns: Floats) -> Floats:
        """Log-odds (n,) of columns (n, columns)."""
        return np.asarray((columns - self.mean) / self.deviation @ self.weights + self.intercept)


def fit_logistic(columns: Floats, label: Ints, user: Ints, within_user: float, seed: int) -> Logistic:
    """Fit to rows given as `columns` (n, columns), labels (n,) and users (n,); without rows the score is 0."""
    from scipy.optimize import minimize

    num_columns = columns.shape[1]
    if not len(columns):
        return Logistic(np.zeros(num_columns), np.ones(num_columns), np.zeros(num_columns), 0.0)
    mean, deviation = columns.mean(0), columns.std(0)
    deviation = np.where(deviation > 1e-9, deviation, 1.0)  # a column that says nothing stays 0
    inputs = np.column_stack([(columns - mean) / deviation, np.ones(len(columns))])
    pairs = draw_pairs(user, label, seed)
    strength = within_user * len(label) / max(1, len(pairs.liked)) * pairs.weight
    penalty = np.append(np.full(num_columns, PENALTY), 1.0)  # the intercept's keeps it finite where all labels are the same

    def loss(weights: Floats) -> tuple[float, Floats]:
        score = inputs @ weights
        margin = score[pairs.liked] - score[pairs.disliked]
        slope = expit(score) - label
        pull = strength * expit(-margin)
        slope += np.bincount(pairs.disliked, pull, len(label)) - np.bincount(pairs.liked, pull, len(label))
        value = np.logaddexp(0, score).sum() - score @ label + strength @ np.logaddexp(0, -margin)
        return float(value + 0.5 * penalty @ weights**2), inputs.T @ slope + penalty * weights

    found = minimize(loss, np.zeros(inputs.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": NUM_STEPS}).x
    return Logistic(mean, deviation, found[:-1], float(found[-1]))


def draw_pairs(user: Ints, label: Ints, seed: int) -> Pairs:
    """PAIRS_PER_ROW pairs for every row of the users who have both labels."""
    order = np.lexsort((label, user))
    known, first, length = np.unique(user[order], return_index=True, return_counts=True)
    likes = np.bincount(np.searchsorted(known, user), label, len(known)).astype(np.int64)
    dislikes = length - likes
    mixed = np.flatnonzero((likes > 0) & (dislikes > 0))
    of = np.repeat(mixed, PAIRS_PER_ROW * length[mixed])
    draw = np.random.default_rng(seed).random((2, len(of)))
    disliked = first[of] + (draw[0] * dislikes[of]).astype(np.int64)
    liked = first[of] + dislikes[of] + (draw[1] * likes[of]).astype(np.int64)
    weight = 1.0 / length[of]
    return Pairs(order[liked], order[disliked], weight / weight.mean() if len(of) else weight)
