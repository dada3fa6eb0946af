"""Figures about clusters, against computations by hand."""

from __future__ import annotations

import numpy as np
import pytest

from thinkrec.routing.cohesion import group_difference, imbalance


def sums(*groups: list[int]) -> list[np.ndarray]:
    """How many users, their rows and the squares of these, of each group of users."""
    return [np.array([f(np.array(group, np.int64)) for group in groups], np.int64) for f in (len, np.sum, lambda g: (g**2).sum())]


def test_group_difference_by_hand():
    found = group_difference(*sums([1, 2, 3], [10, 14], [5, 5]))
    assert found[0, 1] == found[1, 0] == pytest.approx((12 - 2) / np.sqrt((1 + 8) / 2))
    assert found[0, 2] == pytest.approx((5 - 2) / np.sqrt((1 + 0) / 2))
    assert np.diag(found).tolist() == [0, 0, 0]


def test_group_difference_of_clusters_too_small_to_vary():
    found = group_difference(*sums([1, 2], [3], []))
    assert np.isnan(found[1:]).all()
    assert found[0, 0] == 0


def test_large_counts_do_not_cancel():
    """10^6 users around 10^4 rows each: float64 would lose the variance in the squares."""
    num_users = 10**6
    found = group_difference(
        *(
            np.array([value] * 2) * 1 + np.array(add)
            for value, add in (
                (num_users, [0, 0]),
                (num_users * 10**4, [0, num_users]),
                (num_users * (10**8 + 1), [0, num_users * (2 * 10**4 + 1)]),
            )
        )
    )
    assert found[0, 1] == pytest.approx(1.0, rel=1e-5)


def test_imbalance_names_empty_and_tiny_clusters():
    assert imbalance([50, 40, 60]) == []
    assert imbalance([100, 1, 0]) == ["cluster 2 has no train user", "cluster 1 has 1 of 101 train users"]
