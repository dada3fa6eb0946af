"""The variances of the posterior by the marginal likelihood of a sample of users, with exact derivatives."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
from numpy.typing import NDArray

from thinkrec.prior.items import Items
from thinkrec.prior.posterior import MAX_NUMBERS, Batch, Variances, collect, covariance, prequential, scales
from thinkrec.prior.windows import Histories, Windows

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]

NUM_USERS = 200
MIN_ROWS, MAX_ROWS = 3, 96  # of a user in the sample; the last ones of a longer history
PULL = 0.02  # towards the starting values, in squared logarithms: what no user shows stays where it was
NUM_STEPS = 30
CLOSE_ENOUGH = 1e-5  # share of the likelihood that a step must gain
BOUND = 5.0  # logarithms away from the starting value


def fit_variances(histories: Histories, items: Items, start: Variances, seed: int) -> Variances:
    """The most likely variances given NUM_USERS of `histories`, from `start`; `start` itself where no history is long enough."""
    from scipy.optimize import minimize

    length = np.diff(histories.offsets)
    users = np.random.default_rng(seed).permutation(np.flatnonzero(length >= MIN_ROWS))[:NUM_USERS]
    if not len(users):
        return start
    length = np.minimum(length[users], MAX_ROWS)
    windows = Windows(histories.offsets[users + 1] - length, length, histories.fold[users])
    batches = [collect(histories, windows.take(places), items) for places in windows.batches(items.width, MAX_NUMBERS)]
    origin = to_logs(start)

    def loss(logs: Floats) -> tuple[float, Floats]:
        parts = [negative_log_likelihood(batch, items, from_logs(logs)) for batch in batches]
        value, slope = sum(part[0] for part in parts), np.sum([part[1] for part in parts], axis=0)
        return value + PULL * ((logs - origin) ** 2).sum(), slope + 2 * PULL * (logs - origin)

    bounds = [(log - BOUND, log + BOUND) for log in origin]
    found = minimize(loss, origin, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": NUM_STEPS, "ftol": CLOSE_ENOUGH})
    return from_logs(found.x)


def negative_log_likelihood(batch: Batch, items: Items, variances: Variances) -> tuple[float, Floats]:
    """Of a batch's residuals, without the constant, and its derivatives by the logarithms of the variances, in order of `to_logs`."""
    scale = scales(items, variances)
    parts = covariance(batch, scale, variances)
    inverse, white, weights = prequential(parts.total, batch.residual)
    value = 0.5 * (white**2).sum() - np.log(np.diagonal(inverse, axis1=1, axis2=2)).sum()

    fit = weights[:, -1]
    pull = inverse.swapaxes(1, 2) @ inverse - fit[:, :, None] * fit[:, None]
    pull *= batch.is_row[:, :, None] & batch.is_row[:, None]
    place = np.arange(fit.shape[1])
    apart = np.abs(place[:, None] - place) / variances.rows
    passed = np.abs(batch.days[:, :, None] - batch.days[:, None]) / variances.days
    fast, slow, mood = variances.fast * parts.fast, variances.slow * parts.slow, parts.mood * parts.fast
    traits = batch.traits * scale
    tastes = ((pull @ traits) * traits).sum((0, 1))
    blocks = np.split(tastes, np.cumsum(items.widths)[:-1])
    slopes = [
        variances.constant * pull.sum(),
        (pull * fast).sum(),
        (pull * slow).sum(),
        (pull * mood).sum(),
        variances.noise * pull[:, place, place].sum(),
        (pull * (fast + mood) * apart).sum(),
        (pull * slow * passed).sum(),
        *(block.sum() for block in blocks),
    ]
    return float(value), 0.5 * np.array(slopes)


def to_logs(variances: Variances) -> Floats:
    """Logarithms of all fields in order, the tastes last."""
    *parts, tastes = astuple(variances)
    return np.log([*parts, *tastes])


def from_logs(logs: Floats) -> Variances:
    """The inverse of `to_logs`."""
    constant, fast, slow, mood, noise, rows, days, *tastes = np.exp(logs).tolist()
    return Variances(constant, fast, slow, mood, noise, rows, days, tuple(tastes))
