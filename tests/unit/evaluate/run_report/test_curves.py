"""Curves share out the rows by their counts, and the map shows the clusters that were planted."""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score

from thinkrec.artefacts.clusters import read_sample, sample_columns, write_sample
from thinkrec.evaluate.run_report.curves import curves
from thinkrec.evaluate.run_report.usermap import user_map
from thinkrec.routing.router import Router, RouterSettings
from thinkrec.store.artefacts import Artefact


def rows(num_history: np.ndarray) -> pl.DataFrame:
    """Rows whose score is right only where the history is long."""
    rng = np.random.default_rng(5)
    label = rng.integers(0, 2, len(num_history))
    score = np.where(num_history >= 50, label + 0.1 * rng.random(len(label)), rng.random(len(label)))
    return pl.DataFrame({"user_id": np.char.mod("u%d", np.arange(len(label)) % 20), "label": label, "s": score}).with_columns(
        num_history=num_history, num_item_rows=pl.lit(3)
    )


def test_fifths_of_the_rows_with_the_auc_of_each():
    table = rows(np.arange(500) % 100)
    found = [point for point in curves(table, ["s"], 20, 0) if point["by"] == "history"]
    assert [(point["first"], point["last"], point["num_rows"]) for point in found] == [(n, n + 19, 100) for n in range(0, 100, 20)]
    for point in found:
        part = table.filter(pl.col("num_history").is_between(point["first"], point["last"]))
        assert point["auc"] == pytest.approx(roc_auc_score(part["label"], part["s"]))
    assert found[0]["auc"] < 0.7 < found[-1]["auc"] == 1.0


def test_equal_counts_stay_together():
    found = curves(rows(np.repeat([0, 70, 71], [300, 100, 100])), ["s"], 20, 0)
    assert [(point["group"], point["num_rows"]) for point in found if point["by"] == "history"] == [("0", 300), ("70", 100), ("71", 100)]
    assert [(point["group"], point["num_rows"]) for point in found if point["by"] == "popularity"] == [("3", 500)]


@pytest.fixture
def clustered(tmp_path) -> Artefact:
    """300 users around two opposite directions; the last dimension is wild, and the router leaves it out."""
    rng = np.random.default_rng(1)
    cluster = np.arange(300) % 2
    vectors = rng.normal(scale=0.3, size=(300, 4)) + np.where(cluster[:, None] == 0, 1, -1) * np.array([2.0, 1.0, 0, 0])
    vectors[:, 3] = rng.normal(scale=1000, size=300)
    columns = [[f"u{n:03d}" for n in range(300)], cluster.astype(np.int16), vectors.astype(np.float32).tolist()]
    write_sample(tmp_path, pa.table(columns, schema=sample_columns(4)))
    centroids = (np.array([[2, 1, 0, 0], [-2, -1, 0, 0]]) / np.sqrt(5)).astype(np.float32)
    scale = np.array([1, 1, 1, np.inf], np.float32)
    Router(centroids, np.zeros(4, np.float32), scale, RouterSettings(entropy_share=0.9), "k").save(tmp_path)
    return Artefact(str(tmp_path), {"key": "k", "figures": {"num_users_with_vector": 3000}})


def test_planted_clusters_lie_apart_around_their_centres(clustered):
    found = user_map(clustered, seed=0)
    points = np.array(found["points"])
    assert (found["num_users"], found["num_shown"], len(points)) == (3000, 300, 300)
    for number, centre in enumerate(found["centroids"]):
        mine, other = points[points[:, 2] == number][:, 0], points[points[:, 2] != number][:, 0]
        assert np.abs(mine - centre[0]).max() < np.abs(other - centre[0]).min()


def test_the_axes_are_those_of_scikit_learn(clustered):
    found = user_map(clustered, seed=0)
    vectors = read_sample(clustered.path())["vector"].to_numpy()[:, :3].astype(np.float64)
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    model = PCA(3).fit(np.hstack([units, np.zeros((300, 1))]))
    assert found["explained_share"] == pytest.approx(model.explained_variance_ratio_[:2].sum())
    expected = np.abs(model.transform(np.hstack([units, np.zeros((300, 1))]))[:, :2])
    assert np.abs(np.array(found["points"])[:, :2]) == pytest.approx(expected, abs=1e-3)


def test_too_few_users_make_no_map(clustered):
    write_sample(clustered.path(), pq.read_table(clustered.path("sample.parquet"))[:2])
    assert user_map(clustered, seed=0) is None
