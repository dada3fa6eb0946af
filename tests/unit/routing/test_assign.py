"""The cluster stage piece by piece, without Ray."""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import adjusted_rand_score

from thinkrec.artefacts.buckets import split_by_bucket
from thinkrec.artefacts.clusters import ASSIGNMENT, AssignmentFacts, dense_gates, read_clusters, read_gates, write_assignment_facts
from thinkrec.artefacts.ingest import INTERACTIONS, bucket_of, write_bucket
from thinkrec.artefacts.vectors import vector_table, write_user_vectors
from thinkrec.config.model import ClusterSection
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


NUM_BUCKETS = 3


@pytest.fixture
def written(tmp_path, vectors):
    """The addresses of ingest and encode: u000 .. u029 have vectors; u000 .. u019 train rows, n % 4 of each; two users have no vector."""
    rows = [(f"u{n:03d}", "train") for n in range(20) for _ in range(n % 4)] + [(user, "test") for user in ("u007", "new", "newer")]
    log = pl.DataFrame(rows, schema=["user_id", "split"], orient="row").with_columns(ts=0, item_id=pl.lit("i"), label=1, rating=None, row=0)
    for bucket, part in enumerate(split_by_bucket(log.select(INTERACTIONS.names).to_arrow().cast(INTERACTIONS), "user_id", NUM_BUCKETS)):
        write_bucket(str(tmp_path / "ingest"), bucket, part)
    write_user_vectors(tmp_path / "encode", vector_table([f"u{n:03d}" for n in range(30)], vectors[0][:30]), NUM_BUCKETS)
    return {"ingest": str(tmp_path / "ingest"), "encode": str(tmp_path / "encode")}


def test_a_bucket_is_assigned_as_the_router_says(tmp_path, written, vectors):
    router, _ = assign.fit_router(vectors[0], ClusterSection(), 0, True, "key")
    counts = pl.concat(pl.DataFrame(assign.assign(bucket, router=router, draft=str(tmp_path), **written)) for bucket in range(NUM_BUCKETS))
    write_assignment_facts(tmp_path, AssignmentFacts(2, NUM_BUCKETS))
    for bucket in range(NUM_BUCKETS):
        table = pq.read_table(tmp_path / f"assignment/bucket={bucket:03d}/part-0.parquet", partitioning=None)
        assert table.schema.equals(ASSIGNMENT)
        users = table["user_id"].to_pylist()
        assert users == sorted(users)
        assert {bucket_of(user, NUM_BUCKETS) for user in users} == {bucket}
    users = [f"u{n:03d}" for n in range(30)]
    np.testing.assert_array_equal(read_clusters(tmp_path, [*users, "new"]), [*router.hard(vectors[0][:30]), -1])
    gates = dense_gates(read_gates(tmp_path, [*users, "newer"]), 2)
    np.testing.assert_array_equal(gates, [*router.gates(vectors[0][:30]), [0, 0, 1]])
    figures = assign.describe(counts, 2)
    activity = np.arange(20) % 4
    trained = router.hard(vectors[0][:20])[activity > 0]
    assert figures["sizes"] == np.bincount(trained, minlength=2).tolist()
    assert (figures["num_users_with_vector"], figures["num_users_without_vector"]) == (30, 2)
    first, second = (activity[activity > 0][trained == k] for k in range(2))
    d = abs(first.mean() - second.mean()) / np.sqrt((first.var(ddof=1) + second.var(ddof=1)) / 2)
    assert figures["cohens_d"][0][1] == pytest.approx(d, rel=1e-12)
    share = (routes(router.gates(vectors[0][:30])) == "expert").sum() / 32
    assert figures["routes_all_users"]["expert"] == pytest.approx(share)


def test_the_sample_holds_train_users_only_and_repeats(written, vectors):
    def sample(num_users: int, seed: int) -> list[str]:
        parts = [pl.DataFrame(assign.draw(bucket, num_users=num_users, seed=seed, **written)) for bucket in range(NUM_BUCKETS)]
        found = pl.concat(parts).sort("id")
        np.testing.assert_array_equal(found["vector"].to_numpy(), vectors[0][[int(user[1:]) for user in found["id"]]])
        return found["id"].to_list()

    everybody = sample(100, 0)
    assert everybody == [f"u{n:03d}" for n in range(20) if n % 4]
    some, again, other = (sample(2, seed) for seed in (0, 0, 1))
    assert some == again != other
    assert len(some) == 2 * NUM_BUCKETS
    assert {*some} <= {*everybody}


def test_describe_counts_train_users_and_everybody_apart():
    groups = [  # cluster, route, in_train, num_users, num_rows, squares
        (0, "expert", True, 1, 4, 16),
        (0, "mixture", True, 1, 6, 36),
        (1, "expert", True, 1, 9, 81),
        (1, "global", False, 1, 0, 0),
        (-1, "global", False, 1, 0, 0),
    ]
    names = ["cluster", "route", "in_train", *assign.COUNTS]
    counts = pl.DataFrame(groups, schema=names, orient="row", schema_overrides={"cluster": pl.Int16})
    figures = assign.describe(pl.concat([counts, counts.clear()]), 2)
    assert figures["sizes"] == [2, 1]
    assert figures["routes_train_users"] == pytest.approx({"expert": 2 / 3, "global": 0, "mixture": 1 / 3})
    assert figures["routes_all_users"] == {"expert": 0.4, "global": 0.4, "mixture": 0.2}
    assert figures["num_users_without_vector"] == 1
    assert figures["cohens_d"] == [[0.0, None], [None, None]]
    assert figures["cohens_d_max"] == 0
    assert figures["warnings"] == []


def test_kmeans_space_of_given_vectors_uses_every_dimension(vectors):
    assert np.isfinite(kmeans.standardise(vectors[0], has_bias=False)[1]).all()
