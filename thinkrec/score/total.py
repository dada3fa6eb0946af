"""The score a user is served: what counting knows, plus what the language model adds (docs/method.md 10).

    score = prior + g * model,    g >= 0

Test rows, recommendations and `Run.score` call this one function. g is fitted on valid rows by log loss and may be 0, so that a model which
has learned nothing takes nothing away.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

Scores = NDArray[np.float32]


def total_score(prior: Scores, model: Scores, weight: float) -> Scores:
    """Log-odds of a like, (n,), from those of the prior, 0 without one, and the model's score; `weight` is g."""
    return np.asarray(prior + np.float32(weight) * model, np.float32)


def score_columns(prior: Scores, model: Scores, weight: float) -> dict[str, Scores]:
    """The columns score, prior, model and p_like of SCORES (artefacts/scores.py)."""
    score = total_score(prior, model, weight)
    return {"score": score, "prior": prior, "model": model, "p_like": expit(score)}


def fit_model_weight(prior: Scores, model: Scores, label: NDArray[np.int8]) -> float:
    """g >= 0 with the least log loss on these rows; 1, the weight in training, where there are none."""
    if not len(label):
        return 1.0
    offset, step, sign = prior.astype(np.float64), model.astype(np.float64), 2.0 * label - 1

    def loss_and_slope(weight: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        margin = sign * (offset + weight * step)
        return float(np.logaddexp(0, -margin).mean()), -np.mean(sign * step * expit(-margin), keepdims=True)

    # Convex, and begun at 0: what is found is never worse than the prior alone.
    found = minimize(loss_and_slope, np.zeros(1), jac=True, method="L-BFGS-B", bounds=[(0, None)])
    return float(found.x[0])
