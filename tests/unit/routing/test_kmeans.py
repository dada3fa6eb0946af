"""Spherical k-means: finds what is planted, agrees with scikit-learn, repeats itself, and refuses what it cannot cluster."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from thinkrec.config.model import ClusterSection
from thinkrec.errors import DataError
from thinkrec.routing import kmeans
from thinkrec.routing.router import directions

SETTINGS = ClusterSection()


@pytest.fixture(scope="module")
def blobs():
    """Unit points around four directions of R^8, in uneven shares: (points, planted)."""
    rng = np.random.default_rng(0)
    planted = rng.choice(4, 800, p=[0.4, 0.3, 0.2, 0.1])
    centres = np.linalg.qr(rng.normal(size=(8, 4)))[0].T
    points = centres[planted] + 0.15 * rng.normal(size=(800, 8))
    return points / np.linalg.norm(points, axis=1, keepdims=True), planted


def nearest(points: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    return (points @ centroids.T).argmax(axis=1)


@pytest.mark.parametrize("seed", range(4))
def test_finds_the_planted_clusters_and_the_inertia_of_sklearn(blobs, seed):
    points, planted = blobs
    found = kmeans.train(points, 4, SETTINGS, seed)
    assert adjusted_rand_score(planted, nearest(points, found.values)) > 0.97
    theirs = KMeans(4, n_init=10, random_state=0).fit(points).cluster_centers_
    theirs /= np.linalg.norm(theirs, axis=1, keepdims=True)
    assert found.inertia == pytest.approx((1 - (points @ theirs.T).max(axis=1)).mean(), rel=0.02)


def test_centroids_are_unit_and_the_largest_comes_first(blobs):
    points, _ = blobs
    found = kmeans.train(points, 4, SETTINGS, 0)
    np.testing.assert_allclose(np.linalg.norm(found.values, axis=1), 1, rtol=1e-5)
    sizes = np.bincount(nearest(points, found.values)).tolist()
    assert sizes == sorted(sizes, reverse=True)


def test_same_seed_gives_the_same_bits_on_a_sample_too(blobs):
    few = ClusterSection(max_points_per_centroid=50)
    first, second = (kmeans.train(blobs[0], 4, few, 7) for _ in range(2))
    assert first.values.tobytes() == second.values.tobytes()
    assert adjusted_rand_score(blobs[1], nearest(blobs[0], first.values)) > 0.97


def test_the_silhouette_picks_the_planted_number(blobs):
    silhouettes = kmeans.choose_num_clusters(blobs[0], SETTINGS, 0)
    assert next(iter(silhouettes)) == 4
    assert set(silhouettes) == {2, 3, 4, 5, 6}
    assert silhouettes[4] == kmeans.silhouette(blobs[0], kmeans.train(blobs[0], 4, SETTINGS, 0), 0)


def test_a_bias_does_not_drown_the_taste():
    """Users of two tastes whose like-rates vary widely: with the bias in, k-means cuts by like-rate instead."""
    rng = np.random.default_rng(0)
    taste = rng.choice([-1.0, 1.0], 500)
    vectors = np.column_stack([0.3 * taste + 0.1 * rng.normal(size=500), 4 * rng.normal(size=500)]).astype(np.float32)

    def agreement(mean: np.ndarray, scale: np.ndarray) -> float:
        points = directions(vectors, mean, scale)
        return adjusted_rand_score(taste, nearest(points, kmeans.train(points, 2, SETTINGS, 0).values))

    assert agreement(*kmeans.standardise(vectors, has_bias=True)) > 0.95
    assert agreement(vectors.mean(axis=0), np.ones(2)) < 0.5


def test_standardise_leaves_out_what_does_not_vary():
    vectors = np.column_stack([np.arange(10.0), np.full(10, 0.1), np.arange(10.0)]).astype(np.float32)
    mean, scale = kmeans.standardise(vectors, has_bias=True)
    assert mean[0] == pytest.approx(4.5)
    assert scale[0] == pytest.approx(np.arange(10.0).std())
    assert np.isinf(scale[1:]).all()


def test_refusals(blobs):
    points, _ = blobs
    broken = points.copy()
    broken[3, 2] = np.nan
    with pytest.raises(DataError, match="NaN"):
        kmeans.train(broken, 2, SETTINGS, 0)
    with pytest.raises(DataError, match="NaN"):
        kmeans.standardise(broken, has_bias=False)
    with pytest.raises(DataError, match="4 clusters asked for, but the 3 train users have 3 different"):
        kmeans.train(points[:3], 4, SETTINGS, 0)
    with pytest.raises(DataError, match="have 1 different"):
        kmeans.train(np.repeat(points[:1], 50, axis=0), 2, SETTINGS, 0)
    with pytest.raises(DataError, match="all 50 train users are equal"):
        kmeans.standardise(np.repeat(points[:1], 50, axis=0), has_bias=False)
    with pytest.raises(DataError, match="too few"):
        kmeans.choose_num_clusters(points[:2], SETTINGS, 0)
