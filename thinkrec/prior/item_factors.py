"""What items have in common beyond their content: factors by expectation maximisation, shrunk to what content promises.

Of a user's like, less the item's quality and his leniency: residual = V[item] . x[user] + noise with x ~ N(0, 1). Each fold has its own
fit, without its users, and all folds begin at the same point.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from thinkrec.prior.quality import Ratings

Floats = NDArray[np.floating]

NOISE = 0.2  # variance of a like given the factors
SHRINKAGE = 8.0  # pseudo rows of what content promises
RIDGE = 30.0  # penalty of the regression of factors on content
NUM_ROUNDS = 15
START_SCALE = 0.1


def fit_item_factors(ratings: Ratings, rate: Floats, content: Floats, dim: int, seed: int) -> Floats:
    """(num_folds, num_items, dim) factors; `rate` (num_items, num_folds) as in Quality, `content` (num_items, width)."""
    num_items, num_folds = rate.shape
    leniency = ratings.leniency(rate)
    start = np.random.default_rng(seed).normal(scale=START_SCALE, size=(num_items, dim))
    found = np.empty((num_folds, num_items, dim))
    for fold in range(num_folds):
        other = ratings.fold != fold
        met, expected = ratings.met[other], rate[:, fold]
        residual = ratings.liked[other] - met * expected - met * leniency[other, fold][:, None]
        found[fold] = _maximise(csr_array(met), csr_array(residual), content, start)
    return found


def _maximise(met: csr_array, residual: csr_array, content: Floats, start: Floats) -> Floats:
    """Factors (num_items, dim) after NUM_ROUNDS; an item that nobody met has what its content promises."""
    factors, dim = start, start.shape[1]
    eye = np.eye(dim)
    regress = np.linalg.solve(content.T @ content + RIDGE * np.eye(content.shape[1]), content.T)
    for _ in range(NUM_ROUNDS):
        precision = (met @ _outer(factors)).reshape(-1, dim, dim) / NOISE + eye
        spread = np.linalg.inv(precision)
        tastes = np.einsum("uij,uj->ui", spread, residual @ factors) / NOISE
        second = spread.reshape(-1, dim * dim) + _outer(tastes)
        promised = content @ (regress @ factors)
        normal = (met.T @ second).reshape(-1, dim, dim) + SHRINKAGE * eye
        factors = np.linalg.solve(normal, (residual.T @ tastes + SHRINKAGE * promised)[..., None])[..., 0]
    return factors


def _outer(rows: Floats) -> Floats:
    """(n, d) -> (n, d * d): each row's products with itself."""
    return np.asarray(np.einsum("ni,nj->nij", rows, rows).reshape(len(rows), -1))
