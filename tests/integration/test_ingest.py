"""The stage ingest on the real engine."""

import polars as pl
import pytest
from ingested import ingest_here

from thinkrec.artefacts.ingest import INTERACTIONS, bucket_of, read_fingerprint
from thinkrec.data import ingest
from thinkrec.data.interactions import Interactions
from thinkrec.errors import LeakError
from thinkrec.events import Ingested, Warned
from thinkrec.job import Job
from thinkrec.store.artefacts import Artefact, Store

WORLD = {"num_users": 60, "num_items": 100, "interactions_per_user": 20}


@pytest.fixture
def ingested(tmp_path, make_config, reported, ray_cluster):
    """ingested(key, tree) runs the stage and returns its artefact."""

    def run(key: str, tree: dict) -> Artefact:
        config, store = make_config(tree), Store(str(tmp_path))
        with store.create("ingest", key, {}, {}) as draft:
            ingest.run(Job(config, {}, draft, store, key, reported.append))
        return store.find("ingest", key)

    return run


def test_the_artefact_holds_every_row_once_in_its_bucket_and_in_order(ingested, make_config, reported, tmp_path):
    tree = {"run": {"seed": 7}, "data": {"world": WORLD, "num_buckets": 5}}
    artefact = ingested("first", tree)
    artefact.verify()
    files = sorted(artefact.path("interactions").glob("*/*.parquet"))
    assert 1 < len(files) <= 5
    for file in files:
        rows = pl.read_parquet(file, hive_partitioning=False)
        assert rows.columns == INTERACTIONS.names
        assert rows.equals(rows.sort("user_id", "ts", "row"))
        assert {f"bucket={bucket_of(user, 5):03d}" for user in rows["user_id"]} == {file.parent.name}
    whole = pl.concat([pl.read_parquet(file, hive_partitioning=False) for file in files]).sort("row")
    config = make_config(tree)
    here = ingest_here(tmp_path / "here", config.data, config.split, 7)
    assert whole.equals(here.interactions)
    assert read_fingerprint(artefact.path()) == here.facts
    assert len(Interactions.load(artefact.path())) == whole.height == artefact.figures["num_rows"]
    names = {"items.parquet", "truth.parquet", "quarantine/part-0.parquet", "audit.json", "fingerprint.json"}
    assert names <= set(artefact.manifest["files"])
    assert isinstance(reported[-1], Ingested)


def test_the_same_source_gives_the_same_bytes(ingested):
    tree = {"data": {"world": WORLD, "num_buckets": 3}}
    first, second = (ingested(key, tree).manifest["files"] for key in ("one", "two"))
    assert first == second


def test_buckets_change_the_files_and_nothing_else(ingested):
    few, many = (ingested(f"b{n}", {"data": {"world": WORLD, "num_buckets": n}}) for n in (1, 7))
    assert len(list(few.path("interactions").iterdir())) == 1
    for name in ("user", "item", "label", "ts", "row", "split", "offsets"):
        assert (getattr(Interactions.load(few.path()), name) == getattr(Interactions.load(many.path()), name)).all()


def test_a_leak_stops_the_stage_and_leaves_no_artefact(ingested, tmp_path, reported):
    ts = 1_600_000_000_000
    rows = [("a", "x", ts, 1), ("b", "x", ts + 1, 0), ("b", "y", ts + 2, 1), ("a", "x", ts + 3, 1)]
    source = tmp_path / "source"
    source.mkdir()
    pl.DataFrame(rows, schema=["user_id", "item_id", "ts", "label"], orient="row").write_parquet(source / "interactions.parquet")
    pl.DataFrame({"item_id": ["x", "y"], "title": ["X", "Y"]}).write_parquet(source / "items.parquet")
    tree = {"data": {"source": "canonical", "path": str(source)}, "split": {"valid_quantile": 0.5, "test_quantile": 0.75}}
    with pytest.raises(LeakError, match="pair_in_two_splits"):
        ingested("leak", tree)
    assert Store(str(tmp_path)).find("ingest", "leak") is None
    tree["split"]["allow_leaks"] = True
    assert ingested("allowed", tree).figures["num_leaks"] == 3
    assert any(isinstance(event, Warned) and "leak allowed" in event.text for event in reported)
