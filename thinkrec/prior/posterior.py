"""What is known of a user before a row: the posterior mean of his level and tastes, a linear-Gaussian model of (label - item's rate).

    residual = constant + fast(rows) + slow(days) + (tastes + mood(rows)) . traits + noise

All are Gaussian with mean 0. `fast` and `slow` drift: their covariance falls off with the rows and the days between; `mood` is a taste for
keywords that drifts as `fast` does. A window of n rows is one Cholesky factor of (n, n), from which follow the posteriors before all of
its rows; windows of like length are solved together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thinkrec.prior.items import Items
from thinkrec.prior.windows import Histories, Windows, cut

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]

DAY_S = 86_400.0
MAX_NUMBERS = 2**21  # in one array of a batch


@dataclass(frozen=True)
class Variances:
    """Prior variances of a user's parts, and over how many rows and days drifts fall off to 1/e; all above 0."""

    constant: float = 0.015
    fast: float = 0.008
    slow: float = 0.01
    mood: float = 0.001
    noise: float = 0.2
    rows: float = 24.0
    days: float = 0.05
    tastes: tuple[float, ...] = (0.004, 0.008, 0.001, 0.3, 0.02, 0.002)  # one a block of items.TASTES


@dataclass(frozen=True)
class Batch:
    """Windows of like length, filled up with zeros to n rows."""

    traits: Floats  # (b, n, width)
    mood: Floats  # (b, n, widths[0]): the keywords among the traits
    residual: Floats  # (b, n)
    days: Floats  # (b, n) since 1970
    is_row: NDArray[np.bool_]  # (b, n)


@dataclass(frozen=True)
class Covariance:
    """Of the residuals of a batch, and the parts of it that a derivative needs."""

    total: Floats  # (b, n, n), 1 on the diagonal where there is no row
    fast: Floats  # (n, n) fall-off
    slow: Floats  # (b, n, n) fall-off
    mood: Floats  # (b, n, n) without fall-off


@dataclass(frozen=True)
class States:
    """Posterior means at moments, as aligned rows; `fast` and `mood` at the next row, `slow` at the time of the last row seen."""

    constant: Floats
    fast: Floats
    slow: Floats
    tastes: Floats  # (moments, width): weights of traits
    mood: Floats  # (moments, widths[0]): weights of keywords


def user_states(histories: Histories, history: Ints, seen: Ints, items: Items, variances: Variances, max_history: int) -> States:
    """The posterior of each user after the first `seen` rows of his history, both (moments,); 0 where nothing is seen."""
    num_moments = len(seen)
    level, tastes, mood = (np.zeros((num_moments, width)) for width in (3, items.width, items.widths[0]))
    some = np.flatnonzero(seen)
    windows, window, local = cut(histories, history[some], seen[some], max_history)
    by_window = np.argsort(window, kind="stable")
    begin = np.searchsorted(window[by_window], np.arange(len(windows.first) + 1))
    for places in windows.batches(items.width, MAX_NUMBERS):
        moments = np.concatenate([by_window[begin[place] : begin[place + 1]] for place in places])
        inside = np.repeat(np.arange(len(places)), begin[places + 1] - begin[places])
        batch = collect(histories, windows.take(places), items)
        level[some[moments]], tastes[some[moments]], mood[some[moments]] = _solve(batch, inside, local[moments], items, variances)
    return States(level[:, 0], level[:, 1], level[:, 2], tastes, mood)


def collect(histories: Histories, windows: Windows, items: Items) -> Batch:
    """Gather the rows of windows."""
    place = np.arange(windows.length.max())
    is_row = place < windows.length[:, None]
    row = windows.first[:, None] + np.minimum(place, windows.length[:, None] - 1)
    fold, item = np.broadcast_to(windows.fold[:, None], row.shape), histories.item[row]
    traits = items.traits(fold, item) * is_row[..., None]
    residual = np.where(is_row, histories.label[row] - items.rate[fold, item].astype(np.float64), 0.0)
    return Batch(traits, traits[..., : items.widths[0]], residual, histories.seconds[row] / DAY_S, is_row)


def scales(items: Items, variances: Variances) -> Floats:
    """(width,) standard deviations of the weights of traits."""
    return np.repeat(np.sqrt(variances.tastes), items.widths)


def covariance(batch: Batch, scale: Floats, variances: Variances) -> Covariance:
    """The model's covariance of a batch's residuals; `scale` as of `scales`."""
    place = np.arange(batch.residual.shape[1])
    fast = np.exp(-np.abs(place[:, None] - place) / variances.rows)
    slow = np.exp(-np.abs(batch.days[:, :, None] - batch.days[:, None]) / variances.days)
    mood = variances.mood * _inner(batch.mood)
    level = variances.constant + variances.fast * fast + variances.slow * slow
    total = level * (batch.is_row[:, :, None] & batch.is_row[:, None]) + mood * fast + _inner(batch.traits * scale)
    total[:, place, place] += np.where(batch.is_row, variances.noise, 1.0)
    return Covariance(total, fast, slow, mood)


def prequential(total: Floats, residual: Floats) -> tuple[Floats, Floats, Floats]:
    """The Cholesky factor's inverse (b, n, n), the whitened residuals (b, n) and the posterior's weights (b, n + 1, n).

    The posterior mean of any part after m rows is its covariance with the rows times `weights[:, m]`, which is 0 from row m on.
    """
    inverse = np.tril(np.linalg.inv(np.linalg.cholesky(total)))  # tril: not even rounding may look ahead
    white = (inverse @ residual[..., None])[..., 0]
    weights = np.zeros((total.shape[0], total.shape[1] + 1, total.shape[1]))
    np.cumsum(white[..., None] * inverse, axis=1, out=weights[:, 1:])
    return inverse, white, weights


def _solve(batch: Batch, window: Ints, seen: Ints, items: Items, variances: Variances) -> tuple[Floats, Floats, Floats]:
    """Levels (moments, 3), tastes and mood of moments given as windows of the batch and rows seen of them."""
    scale = scales(items, variances)
    _, _, weights = prequential(covariance(batch, scale, variances).total, batch.residual)
    num_rows = batch.residual.shape[1]
    ahead = np.maximum(0, np.arange(num_rows + 1)[:, None] - np.arange(num_rows))
    decayed = weights * np.exp(-ahead / variances.rows)
    passed = np.maximum(0, batch.days[window, seen - 1][:, None] - batch.days[window])
    slow = (weights[window, seen] * np.exp(-passed / variances.days)).sum(1)
    constant, fast = weights.sum(2)[window, seen], decayed.sum(2)[window, seen]
    level = np.stack([variances.constant * constant, variances.fast * fast, variances.slow * slow], axis=1)
    tastes = (weights @ batch.traits)[window, seen] * scale**2
    mood = (decayed @ batch.mood)[window, seen] * variances.mood
    return level, tastes, mood


def _inner(rows: Floats) -> Floats:
    """(b, n, d) -> (b, n, n)."""
    return rows @ rows.swapaxes(1, 2)
