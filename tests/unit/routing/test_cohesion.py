"""Figures about clusters, against computations by hand."""

from __future__ import annotations

import numpy as np
import pytest

from thinkrec.routing.cohesion import group_difference, imbalance


def test_group_difference_by_hand():
    num_rows, cluster = np.array([1, 2, 3, 10, 14, 5, 5]), np.array([0, 0, 0, 1, 1, 2, 2])
    found = group_difference(num_rows, cluster, 3)
    assert found[0, 1] == found[1, 0] == pytest.approx((12 - 2) / np.sqrt((1 + 8) / 2))
    assert found[0, 2] == pytest.approx((5 - 2) / np.sqrt((1 + 0) / 2))
    assert np.diag(found).tolist() == [0, 0, 0]


def test_group_difference_of_clusters_too_small_to_vary():
    found = group_difference(np.array([1, 2, 3]), np.array([0, 0, 1]), 3)
    assert np.isnan(found[1]).all()
    assert np.isnan(found[2]).all()
    assert found[0, 0] == 0


def test_imbalance_names_empty_and_tiny_clusters():
    assert imbalance([50, 40, 60]) == []
    assert imbalance([100, 1, 0]) == ["cluster 2 has no train user", "cluster 1 has 1 of 101 train users"]
