"""The stages encode and cluster on a real Ray cluster, from an ingest artefact to everybody's gates."""

from __future__ import annotations

import errno
import sys

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ray import cloudpickle
from ray.data import ActorPoolStrategy
from sklearn.metrics import adjusted_rand_score

from thinkrec.artefacts.clusters import dense_gates, read_assignment
from thinkrec.artefacts.ingest import INTERACTIONS, write_fingerprint
from thinkrec.artefacts.vectors import read_bucket_vectors, vector_columns
from thinkrec.config.model import EncoderSection
from thinkrec.config.run import Config
from thinkrec.data.buckets import count
from thinkrec.distributed.bucket_map import over_buckets
from thinkrec.encoder import fit
from thinkrec.errors import ModelError
from thinkrec.job import Job
from thinkrec.routing import assign
from thinkrec.routing.router import Router
from thinkrec.store.artefacts import Artefact, Store

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]
cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test
NUM_USERS, NUM_ITEMS, NUM_NEW = 160, 50, 7


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(str(tmp_path_factory.mktemp("run")))


@pytest.fixture(scope="module")
def config():
    return Config.model_validate({"encoder": {"dim": 4, "lr": 0.03}, "train": {"use_gpu": False}})


@pytest.fixture(scope="module")
def tastes():
    return np.random.default_rng(0).choice([-1, 1], NUM_USERS + NUM_NEW)


@pytest.fixture(scope="module")
def ingest(store, tastes):
    """Users of two opposite tastes; the last NUM_NEW of them appear only in test."""
    rng = np.random.default_rng(1)
    kind = rng.normal(size=NUM_ITEMS)
    user = np.repeat(np.arange(NUM_USERS + NUM_NEW), 30)
    item = np.concatenate([rng.permutation(NUM_ITEMS)[:30] for _ in range(NUM_USERS + NUM_NEW)])
    place = np.tile(np.arange(30), NUM_USERS + NUM_NEW)
    split = np.where((user >= NUM_USERS) | (place >= 26), "test", np.where(place >= 22, "valid", "train"))
    label = rng.random(len(user)) < 1 / (1 + np.exp(-4 * tastes[user] * kind[item]))
    rows = {
        "user_id": [f"u{n}" for n in user],
        "item_id": [f"i{n}" for n in item],
        "ts": place,
        "rating": pa.nulls(len(user), pa.float32()),
        "label": label.astype(np.int8),
        "split": split.tolist(),
        "row": np.arange(len(user)),
    }
    with store.create("ingest", "k0", {}, {}) as draft:
        folder = draft.local() / "interactions/bucket=000"
        folder.mkdir(parents=True)
        pq.write_table(pa.table(rows, schema=INTERACTIONS), folder / "part-0.parquet")
        pq.write_table(pa.table({"item_id": sorted(set(rows["item_id"]))}), draft.local() / "items.parquet")
        write_fingerprint(draft.local(), {"num_buckets": 1})
        pq.write_table(count(pl.DataFrame(rows).with_columns(bucket=pl.lit(0, pl.Int16))), draft.local() / "counts.parquet")
    return found(store, "ingest", "k0")


@pytest.fixture(scope="module")
def run(store, config, ray_cluster):
    """run(stage, key, module, inputs) commits one artefact; `encoder` takes the place of the config's."""

    def stage(name: str, key: str, module, inputs: dict[str, Artefact], encoder: EncoderSection = config.encoder) -> Artefact:
        with store.create(name, key, inputs, {}) as draft:
            job = Job(config.model_copy(update={"encoder": encoder}), inputs, draft, store, key, lambda event: None)
            module.run(job)
        return found(store, name, key)

    return stage


@pytest.fixture(scope="module")
def encode(run, ingest):
    return run("encode", "k1", fit, {"ingest": ingest})


@pytest.fixture(scope="module")
def cluster(run, ingest, encode):
    return run("cluster", "k2", assign, {"ingest": ingest, "encode": encode})


def found(store: Store, stage: str, key: str) -> Artefact:
    artefact = store.find(stage, key)
    assert artefact is not None
    return artefact


def test_encode_covers_train_and_nobody_else(encode):
    users = pq.read_table(encode.path("users/bucket=000/part-0.parquet"), partitioning=None)
    assert users.schema.equals(vector_columns(5))
    assert set(users["id"].to_pylist()) == {f"u{n}" for n in range(NUM_USERS)}
    assert encode.figures["num_vectors_missing"] == {"users": NUM_NEW, "items": 0}
    assert encode.figures["valid_auc"] > 0.75
    assert set(encode.manifest["files"]) == {"users/bucket=000/part-0.parquet", "items.parquet", "scores.parquet", "encoder.json"}


@pytest.mark.parametrize(("source", "settings"), [("lightgcn", {"lr": 0.02}), ("sasrec", {"lr": 0.01, "num_epochs": 6, "batch_size": 16})])
def test_every_encoder_finds_the_tastes_and_feeds_the_clusters(run, ingest, tastes, source, settings):
    encoded = run("encode", source, fit, {"ingest": ingest}, EncoderSection(source=source, dim=16, **settings))
    assert encoded.figures["valid_auc"] > 0.75
    clustered = run("cluster", f"cluster-{source}", assign, {"ingest": ingest, "encode": encoded})
    known = read_assignment(clustered.path(), 0).filter(pl.col("cluster") >= 0)
    planted = tastes[[int(user[1:]) for user in known["user_id"]]]
    assert adjusted_rand_score(planted, known["cluster"]) > 0.7


def test_everybody_is_assigned_as_the_router_says(cluster, encode, tastes):
    assignment = read_assignment(cluster.path(), 0)
    assert assignment["user_id"].to_list() == sorted(f"u{n}" for n in range(NUM_USERS + NUM_NEW))
    known = assignment.filter(pl.col("cluster") >= 0)
    vectors = known.join(read_bucket_vectors(encode.path(), 0), left_on="user_id", right_on="id", maintain_order="left")
    router = Router.load(cluster.path())
    values = vectors["vector"].to_numpy()
    np.testing.assert_array_equal(known["cluster"], router.hard(values))
    np.testing.assert_array_equal(dense_gates(known["gates"], 2), router.gates(values))
    planted = tastes[[int(user[1:]) for user in known["user_id"]]]
    assert adjusted_rand_score(planted, known["cluster"]) > 0.9
    assert router.vectors_key == encode.key


def test_new_users_fall_back_to_the_global_adapter(cluster):
    new = read_assignment(cluster.path(), 0).filter(pl.col("cluster") == -1)
    assert set(new["user_id"]) == {f"u{n}" for n in range(NUM_USERS, NUM_USERS + NUM_NEW)}
    assert dense_gates(new["gates"], 2).tolist() == [[0, 0, 1]] * NUM_NEW


def test_cluster_figures_add_up(cluster):
    figures = cluster.figures
    assert sum(figures["sizes"]) == NUM_USERS
    assert figures["num_users_without_vector"] == NUM_NEW
    assert sum(figures["routes_all_users"].values()) == pytest.approx(1)


def test_cluster_twice_gives_the_same_rows(run, ingest, encode, cluster):
    again = run("cluster", "k3", assign, {"ingest": ingest, "encode": encode})
    assert read_assignment(again.path(), 0).equals(read_assignment(cluster.path(), 0))
    assert again.manifest["files"]["router.safetensors"] == cluster.manifest["files"]["router.safetensors"]
    assert again.figures == cluster.figures


class Refuses:
    """An actor's work that cannot be made, or whose disk is full at its first bucket."""

    def __init__(self, is_made: bool) -> None:
        if not is_made:
            raise ModelError("no token is left for the history", "prompt.max_tokens", "raise it")

    def __call__(self, bucket: int) -> pa.Table:
        raise OSError(errno.ENOSPC, "No space left on device", f"bucket={bucket}")


def refuse(bucket: int, **settings: bool) -> pa.Table:
    """The same as tasks."""
    return Refuses(**settings)(bucket)


@pytest.mark.parametrize("work", [Refuses, refuse])
def test_what_an_actor_or_a_task_refuses_is_told_without_a_traceback(ray_cluster, work, caplog):
    actors = ActorPoolStrategy(size=1) if work is Refuses else None
    with pytest.raises(ModelError, match="no token is left") as refused:
        list(over_buckets(work, "a refusal", range(2), actors, is_made=False))
    assert (type(refused.value), refused.value.fix) == (ModelError, "raise it")
    with pytest.raises(OSError, match=r"^\[Errno 28\] No space left on device$") as full:
        list(over_buckets(work, "a refusal", range(2), actors, is_made=True))
    assert (type(full.value), full.value.errno) == (OSError, errno.ENOSPC)
    assert "Traceback" not in caplog.text
