"""The rule of docs/method.md 10 on vectors made to hit it, and the files it lives in."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import polars as pl
import pytest

from thinkrec.config.model import ClusterSection
from thinkrec.errors import ConfigError, DataError, MissingFileError
from thinkrec.routing.router import Router, RouterSettings, directions, routes

RULE = RouterSettings()
TEMPERATURE = RULE.temperature


def make_router(num_clusters: int, rule: RouterSettings = RULE, **changes) -> Router:
    """Orthogonal centroids in a space that is the vectors' own."""
    eye = np.eye(num_clusters, dtype=np.float32)
    router = Router(eye, np.zeros(num_clusters, np.float32), np.ones(num_clusters, np.float32), rule, "key")
    return dataclasses.replace(router, **changes)


def vector_with_top_weight(weight: float, num_clusters: int) -> np.ndarray:
    """A unit vector whose softmax weight on cluster 0 is `weight`, the rest being shared evenly."""
    gap = TEMPERATURE * (np.log(weight / (1 - weight)) + np.log(num_clusters - 1))
    rest = (-gap + np.sqrt(gap**2 - num_clusters * (gap**2 - 1))) / num_clusters
    return np.array([[rest + gap] + [rest] * (num_clusters - 1)])


@pytest.mark.parametrize(("num_clusters", "threshold"), [(2, 0.80), (3, 0.70), (4, 0.65), (5, 0.62)])
def test_one_expert_above_the_threshold(num_clusters, threshold):
    router = make_router(num_clusters)
    above, below = (vector_with_top_weight(threshold + step, num_clusters) for step in (0.001, -0.001))
    assert router.weights(above)[0, 0] == pytest.approx(threshold + 0.001, abs=1e-6)
    assert router.gates(above).tolist() == [[1.0] + [0.0] * num_clusters]
    mixed = router.gates(below)
    assert routes(mixed).tolist() == ["mixture"]
    np.testing.assert_allclose(mixed[:, :-1], router.weights(below))
    assert mixed[0, -1] == 0


@pytest.mark.parametrize(("weight", "route"), [(0.501, "global"), (0.630, "global"), (0.632, "mixture"), (0.799, "mixture")])
def test_the_global_band_of_two_clusters(weight, route):
    gates = make_router(2).gates(vector_with_top_weight(weight, 2))
    assert routes(gates).tolist() == [route]
    assert (gates[0, 2] == 1) == (route == "global")


def test_weights_are_the_softmax_of_cosines():
    rng = np.random.default_rng(0)
    vectors, centroids = rng.normal(size=(50, 4)), rng.normal(size=(3, 4))
    centroids /= np.linalg.norm(centroids, axis=1, keepdims=True)
    mean, scale = rng.normal(size=4).astype(np.float32), rng.uniform(0.5, 2, 4).astype(np.float32)
    router = make_router(3, centroids=centroids.astype(np.float32), mean=mean, scale=scale)
    for vector, found in zip(vectors, router.weights(vectors), strict=True):
        z = (vector - mean) / scale
        raw = np.exp([z @ c / np.linalg.norm(z) / TEMPERATURE for c in centroids])
        np.testing.assert_allclose(found, raw / raw.sum(), rtol=1e-4, atol=1e-7)


def test_the_expert_is_looked_at_before_the_global_band():
    router = make_router(2, RouterSettings(entropy_share=0.0))  # every entropy reaches this share
    vectors = np.vstack([vector_with_top_weight(weight, 2) for weight in (0.9, 0.7)])
    assert routes(router.gates(vectors)).tolist() == ["expert", "global"]


@pytest.mark.parametrize("num_clusters", [1, 2, 3, 8])
def test_gates_sum_to_one_and_strangers_get_the_global_adapter(num_clusters):
    rng = np.random.default_rng(1)
    vectors, known = rng.normal(size=(300, num_clusters)), rng.random(300) < 0.8
    vectors[~known] = np.nan
    router = make_router(num_clusters, RouterSettings(temperature=0.5))
    gates = router.gates(vectors, known)
    assert gates.shape == (300, num_clusters + 1)
    assert gates.dtype == np.float32
    np.testing.assert_allclose(gates.sum(axis=1), 1, rtol=1e-6)
    assert (gates[~known, -1] == 1).all()
    assert (router.hard(vectors, known)[~known] == -1).all()
    assert num_clusters == 1 or (gates[known, -1] < 1).any()


def test_one_cluster_is_the_run_without_experts():
    assert routes(make_router(1).gates(np.array([[1.0], [-2.0]]))).tolist() == ["global", "global"]


def test_a_user_at_the_mean_is_global_and_a_left_out_dimension_says_nothing():
    mean, scale = np.array([1, 2, 9], np.float32), np.array([1, 2, np.inf], np.float32)
    router = make_router(2, centroids=np.eye(2, 3, dtype=np.float32), mean=mean, scale=scale)
    assert routes(router.gates(mean[None])).tolist() == ["global"]
    near, far = np.array([[2, 2, 0]]), np.array([[2, 2, 1e6]])
    np.testing.assert_array_equal(router.gates(near), router.gates(far))
    np.testing.assert_array_equal(directions(near, mean, scale), [[1, 0, 0]])


def test_hard_is_the_top_weight():
    vectors = np.random.default_rng(2).normal(size=(100, 4))
    router = make_router(4)
    np.testing.assert_array_equal(router.hard(vectors), router.weights(vectors).argmax(axis=1))
    assert router.hard(vectors).dtype == np.int16


def planted(num_clusters: int, off_origin: float) -> tuple[Router, np.ndarray]:
    """A router over centroids of no order, and 3,000 users around them: one expert, mixtures and the global adapter all occur."""
    rng = np.random.default_rng(5)
    centroids = rng.normal(size=(num_clusters, 16))
    centroids /= np.linalg.norm(centroids, axis=1, keepdims=True)
    mean, scale = (off_origin * rng.normal(size=16)).astype(np.float32), rng.uniform(0.5, 2, 16).astype(np.float32)
    near = centroids[rng.integers(num_clusters, size=3000)] * rng.uniform(0, 3, (3000, 1)) + 0.3 * rng.normal(size=(3000, 16))
    router = make_router(num_clusters, centroids=centroids.astype(np.float32), mean=mean, scale=scale)
    return router, (near * scale + mean).astype(np.float32)


@pytest.mark.parametrize("num_clusters", [2, 8, 300])
@pytest.mark.parametrize("off_origin", [1, 1000])
def test_float32_in_blocks_says_what_the_formulas_say_in_float64(num_clusters, off_origin):
    router, vectors = planted(num_clusters, off_origin)
    cosines = directions(vectors.astype(np.float64), router.mean, router.scale) @ router.centroids.T.astype(np.float64)
    weights = np.exp(cosines / TEMPERATURE) / np.exp(cosines / TEMPERATURE).sum(axis=1, keepdims=True)
    entropy, one_hot = -(weights * np.log(weights)).sum(axis=1), np.eye(num_clusters + 1)
    alone = weights.max(axis=1) > RULE.expert_threshold + RULE.expert_slope / num_clusters
    general = ~alone & (entropy >= RULE.entropy_share * np.log(num_clusters))
    expected = np.hstack([weights, np.zeros((3000, 1))])
    expected[alone], expected[general] = one_hot[weights[alone].argmax(axis=1)], one_hot[-1]
    assert min(alone.sum(), (~alone).sum()) > 10
    np.testing.assert_allclose(router.gates(vectors), expected, atol=1e-6)
    np.testing.assert_array_equal(router.hard(vectors), cosines.argmax(axis=1))


def test_float64_decides_where_float32_cannot():
    """Two users an eighth of float32's last digit from the threshold, one on either side of it."""
    router = make_router(2)
    step = 0.1 * np.log(0.8 / 0.2)  # the difference of cosines at the threshold of .8
    angle = np.arccos(step / np.sqrt(2)) - np.pi / 4 + np.array([[-1e-8], [1e-8]])
    vectors = np.hstack([np.cos(angle), np.sin(angle)])
    assert routes(router.gates(vectors)).tolist() == ["expert", "mixture"]


def test_of_equal_centroids_the_first_serves():
    router = make_router(2, RouterSettings(expert_threshold=0, expert_slope=0))
    assert router.gates(np.array([[1.0, 1.0]])).tolist() == [[1, 0, 0]]
    assert router.hard(np.array([[1.0, 1.0]])).tolist() == [0]


def test_saved_and_loaded_are_equal(tmp_path):
    mean, scale = np.array([0.1, 0.2, 0.3], np.float32), np.array([1, 2, np.inf], np.float32)
    router = make_router(3, RouterSettings(temperature=0.07), mean=mean, scale=scale)
    router.save(tmp_path / "new")
    loaded = Router.load(str(tmp_path / "new"))
    vectors = np.random.default_rng(3).normal(size=(20, 3))
    assert router.gates(vectors).tobytes() == loaded.gates(vectors).tobytes()
    for field in dataclasses.fields(Router):
        np.testing.assert_array_equal(getattr(loaded, field.name), getattr(router, field.name))


def test_the_rule_is_the_papers_and_that_of_a_run_file():
    section = ClusterSection()
    assert RouterSettings() == RouterSettings(0.1, 0.5, 0.6, 0.95)
    assert all(getattr(section, name) == value for name, value in dataclasses.asdict(RouterSettings()).items())


def test_vectors_may_come_as_a_data_frame():
    vectors = np.random.default_rng(4).normal(size=(5, 2))
    expected = make_router(2).gates(vectors)
    for frame in (vectors.tolist(), pd.DataFrame(vectors), pl.DataFrame(vectors)):
        np.testing.assert_array_equal(make_router(2).gates(frame), expected)


def test_refusals(tmp_path):
    router = make_router(2)
    with pytest.raises(DataError, match=r"shape \(2,\)"):
        router.gates(np.zeros(2))  # one user is a row, too
    with pytest.raises(ConfigError, match="temperature of 0"):
        RouterSettings(temperature=0)
    with pytest.raises(DataError, match=r"takes \(n, 2\)"):
        router.gates(np.zeros((4, 3)))
    with pytest.raises(DataError, match="NaN"):
        router.gates(np.array([[np.nan, 1.0]]))
    for value in (np.nan, np.inf, -np.inf):
        with pytest.raises(DataError, match="NaN"):
            router.hard(np.array([[1.0, 1.0], [value, 1.0]]))
    with pytest.raises(DataError, match="do not fit together"):
        make_router(2, scale=np.ones(3, np.float32))
    with pytest.raises(MissingFileError, match="no router here"):
        Router.load(tmp_path)
