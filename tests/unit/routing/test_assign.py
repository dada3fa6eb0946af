"""The cluster stage piece by piece, without Ray."""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import adjusted_rand_score

from thinkrec.artefacts.clusters import assignment_columns, read_assignment
from thinkrec.artefacts.ingest import USERS
from thinkrec.artefacts.tables import write_table
from thinkrec.artefacts.vectors import vector_columns
from thinkrec.config.model import ClusterSection
from thinkrec.errors import DataError
from thinkrec.routing import assign, kmeans
from thinkrec.routing.router import directions, routes


@pytest.fixture(scope="module")
def vectors():
    """400 users of two opposite tastes, off the origin, one number loud and void, a bias at the end: (vectors, planted)."""
    rng = np.random.default_rng(0)
    planted = rng.integers(2, size=400)
    taste = np.where(planted[:, None] == 0, 1, -1) * rng.normal(size=6) + 0.4 * rng.normal(size=(400, 6))
    loud, bias = 8 * rng.normal(size=400), rng.normal(size=400)
    return np.column_stack([taste + 3, loud, bias]).astype(np.float32), planted


def table_of(ids: list[str], vectors: np.ndarray) -> pa.Table:
    return pa.table({"id": ids, "vector": vectors.tolist()}, schema=vector_columns(vectors.shape[1]))


def test_a_user_is_served_by_the_cluster_it_trained(vectors):
    """D4: one space for both. The published way, cosines of raw vectors to raw means, does disagree on the same clusters."""
    values, planted = vectors
    router, figures = assign.fit_router(values, ClusterSection(), 0, True, "key")
    trained = (directions(values, router.mean, router.scale).astype(np.float32) @ router.centroids.T).argmax(axis=1)
    routed = router.hard(values)
    np.testing.assert_array_equal(routed, trained)
    assert adjusted_rand_score(planted, routed) > 0.97
    alone = routes(router.gates(values)) == "expert"
    assert alone.mean() > 0.5
    np.testing.assert_array_equal(router.gates(values)[alone].argmax(axis=1), trained[alone])
    raw_means = np.stack([values[trained == k].mean(axis=0) for k in range(2)])
    raw_route = directions(values, np.zeros(8), np.ones(8)) @ directions(raw_means, np.zeros(8), np.ones(8)).T
    assert (raw_route.argmax(axis=1) != trained).mean() > 0.1
    assert figures["num_points"] == 400


def test_zero_clusters_means_choose(vectors):
    router, figures = assign.fit_router(vectors[0], ClusterSection(num_clusters=0, max_clusters=4), 0, True, "key")
    assert router.num_clusters == 2
    assert figures["silhouette"] == figures["silhouettes"][2] == max(figures["silhouettes"].values())


def test_one_cluster_sends_everybody_to_the_global_adapter(vectors):
    router, figures = assign.fit_router(vectors[0], ClusterSection(num_clusters=1), 0, True, "key")
    assert set(routes(router.gates(vectors[0]))) == {"global"}
    assert figures["silhouette"] is None


def test_route_batch_follows_the_schema(vectors):
    router, _ = assign.fit_router(vectors[0], ClusterSection(), 0, True, "key")
    ids = [f"u{n}" for n in range(400)]
    for places in (slice(0, 400), slice(5, 25), slice(0, 0)):
        table = assign.route_batch(table_of(ids, vectors[0])[places], router)
        assert table.schema.equals(assignment_columns(2))
        assert table["user_id"].to_pylist() == ids[places]
        gates = pl.Series(table["gates"]).to_numpy().astype(np.float32)
        np.testing.assert_allclose(gates, router.gates(vectors[0][places]), atol=5e-4)
        np.testing.assert_array_equal(table["cluster"], router.hard(vectors[0][places]))


def test_the_sample_holds_train_users_only_and_repeats(tmp_path):
    values = np.arange(40, dtype=np.float32).reshape(20, 2)
    pq.write_table(table_of([f"u{n:02d}" for n in reversed(range(20))], values[::-1]), tmp_path / "users.parquet")
    activity = pl.DataFrame({"user_id": [f"u{n:02d}" for n in range(10)] + ["no vector"], "num_rows": [3] * 11})
    users, everybody = assign.sample_vectors(tmp_path, activity, 100, 0)
    assert users.to_list() == [f"u{n:02d}" for n in range(10)]
    np.testing.assert_array_equal(everybody, values[:10])
    some, again, other = (assign.sample_vectors(tmp_path, activity, 4, seed)[1] for seed in (0, 0, 1))
    assert some.shape == (4, 2)
    assert some.tolist() == again.tolist() != other.tolist()
    assert {*some[:, 0]} <= {*everybody[:, 0]}
    with pytest.raises(DataError, match=r"none of 1 train users has a vector: users look like \['0'\], ids like \['u19'\]"):
        assign.sample_vectors(tmp_path, pl.DataFrame({"user_id": ["0"], "num_rows": [3]}), 4, 0)


def test_unknown_users_are_global_and_everything_reads_back(tmp_path, vectors):
    router, _ = assign.fit_router(vectors[0], ClusterSection(), 0, True, "key")
    write_table(tmp_path / "encode/users.parquet", table_of(["b", "d"], vectors[0][:2]))
    write_table(tmp_path / "ingest/users.parquet", pa.table({"user_id": ["d", "c", "b", "a"]}, schema=USERS))
    write_table(tmp_path / "assignment/0.parquet", assign.route_batch(table_of(["b", "d"], vectors[0][:2]), router))
    assign.write_unknown(tmp_path / "ingest", tmp_path / "encode", 2, str(tmp_path))
    found = read_assignment(tmp_path)
    assert found["user_id"].to_list() == ["a", "b", "c", "d"]
    assert found["cluster"].to_list() == [-1, router.hard(vectors[0])[0], -1, router.hard(vectors[0])[1]]
    assert found.schema["gates"] == pl.Array(pl.Float32, 3)
    np.testing.assert_array_equal(found["gates"].to_numpy()[[0, 2]], [[0, 0, 1], [0, 0, 1]])


def test_describe_counts_train_users_and_everybody_apart():
    assignment = pl.DataFrame(
        {
            "user_id": ["a", "b", "c", "d", "e"],
            "cluster": pl.Series([0, 0, 1, 1, -1], dtype=pl.Int16),
            "gates": pl.Series(np.array([[1, 0, 0], [0.6, 0.4, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]], np.float32)),
        }
    )
    activity = pl.DataFrame({"user_id": ["a", "b", "c"], "num_rows": [4, 6, 9]})
    figures = assign.describe(assignment, activity, 2)
    assert figures["sizes"] == [2, 1]
    assert figures["routes_train_users"] == pytest.approx({"expert": 2 / 3, "global": 0, "mixture": 1 / 3})
    assert figures["routes_all_users"] == {"expert": 0.4, "global": 0.4, "mixture": 0.2}
    assert figures["num_users_without_vector"] == 1
    assert figures["cohens_d"] == [[0.0, None], [None, None]]
    assert figures["cohens_d_max"] == 0
    assert figures["warnings"] == []


def test_kmeans_space_of_given_vectors_uses_every_dimension(vectors):
    assert np.isfinite(kmeans.standardise(vectors[0], has_bias=False)[1]).all()
