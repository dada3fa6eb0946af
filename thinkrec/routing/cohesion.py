"""What the clusters are like: sizes, and how differently active their users are (the paper's group difference)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
SMALL_SHARE = 0.1  # a cluster below this share of an even one is too small to train an expert on


def group_difference(num_users: Ints, num_rows: Ints, squares: Ints) -> NDArray[np.float64]:
    """Cohen's d (K, K) between clusters, of the users' train row counts: |mean_a - mean_b| / sqrt((var_a + var_b) / 2) (docs/method.md 9).

    (K,) sums over the users of each cluster: how many, their row counts and the squares of these; variances are sample variances, and a
    cluster with fewer than two users has NaN.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = num_rows / num_users
        variance = (num_users * squares - num_rows**2) / (num_users * (num_users - 1))  # whole numbers above: nothing cancels
        distance = np.abs(mean[:, None] - mean)
        spread = np.sqrt((variance[:, None] + variance) / 2)
        difference: NDArray[np.float64] = np.where(distance == 0, 0.0 * spread, distance / spread)
    return difference


def imbalance(sizes: Sequence[int]) -> list[str]:
    """Warnings about clusters that are empty or far below an even share."""
    even = sum(sizes) / len(sizes)
    empty = [f"cluster {k} has no train user" for k, size in enumerate(sizes) if size == 0]
    small = [f"cluster {k} has {size} of {sum(sizes)} train users" for k, size in enumerate(sizes) if 0 < size < SMALL_SHARE * even]
    return empty + small
