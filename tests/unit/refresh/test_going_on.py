"""The stages that go on from yesterday's, by the graph runner itself and in this process: log, vectors and routes two days long."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from ingested import ingest_here

from thinkrec.artefacts.clusters import (
    AssignmentFacts,
    read_assignment,
    sample_columns,
    write_assignment_facts,
    write_sample,
)
from thinkrec.artefacts.ingest import bucket_files, bucket_of, read_items
from thinkrec.artefacts.vectors import (
    EncoderFacts,
    read_bucket_vectors,
    read_facts,
    read_scores,
    vector_table,
    write_facts,
    write_item_vectors,
    write_user_vectors,
)
from thinkrec.config import run as run_file
from thinkrec.config.run import Config
from thinkrec.data import append
from thinkrec.data.audit.artefacts import audit_artefacts
from thinkrec.encoder import fold_in
from thinkrec.events import Noted
from thinkrec.pipeline.execute import run_graph
from thinkrec.pipeline.stages import STAGES
from thinkrec.refresh.stages import refresh_graph
from thinkrec.routing import reroute
from thinkrec.routing.assign import assign, fit_router
from thinkrec.store.artefacts import Artefact, Store

NUM_BUCKETS, DIM = 4, 5
GOES_ON = ("ingest", "encode", "cluster")
WORLD = {"num_users": 60, "num_items": 100, "interactions_per_user": 20}


@pytest.fixture
def config(tmp_path) -> Config:
    tree = {"run": {"dir": str(tmp_path / "run")}, "data": {"num_buckets": NUM_BUCKETS, "world": WORLD}}
    return run_file.parse(tree)


@pytest.fixture
def yesterday(config, request) -> dict[str, Artefact]:
    """A run of which these three stages are there, with random vectors of train; the others are empty. Its parameter is the encoder."""
    store, made = Store(config.run.dir), dict[str, Artefact]()
    rng = np.random.default_rng(0)
    for stage in (*GOES_ON, *(stage.name for stage in STAGES if stage.is_in(config) and stage.name not in GOES_ON)):
        with store.create(stage, "key0", {}, {}) as draft:
            folder = draft.local()
            if stage == "ingest":
                log = ingest_here(folder, config.data).interactions.filter(split="train")
                users, items = (sorted(set(log[name])) for name in ("user_id", "item_id"))
            elif stage == "encode":
                write_user_vectors(folder, vector_table(users, rng.normal(size=(len(users), DIM)).astype(np.float32)), NUM_BUCKETS)
                write_item_vectors(folder, vector_table(items, rng.normal(size=(len(items), DIM)).astype(np.float32)))
                write_facts(
                    folder,
                    EncoderFacts(
                        getattr(request, "param", "mf"), True, DIM, len(users), len(items), NUM_BUCKETS, mean=0.1, num_rows=len(log)
                    ),
                )
            elif stage == "cluster":
                route(made, folder)
        made[stage] = store.find(stage, "key0")
    return made


def route(made: dict[str, Artefact], folder: Path) -> None:
    vectors = pl.concat([read_bucket_vectors(made["encode"].path(), bucket) for bucket in range(NUM_BUCKETS)]).sort("id")
    values = vectors["vector"].to_numpy()
    router, _ = fit_router(values, has_bias=True)
    router.save(folder)
    sample = vectors.select(user_id="id", cluster=router.hard(values), vector="vector")
    write_sample(folder, sample.to_arrow().cast(sample_columns(DIM)))
    write_assignment_facts(folder, AssignmentFacts(router.num_clusters, NUM_BUCKETS))
    for bucket in range(NUM_BUCKETS):
        assign(bucket, made["ingest"].uri, made["encode"].uri, router, str(folder))


@pytest.fixture
def go_on(config, tmp_path, monkeypatch, reported):
    """go_on(artefacts, users) -> the next day's artefacts, after a day on which these users meet an item that is new."""

    def by_bucket(work, what, buckets, **settings) -> Iterator[pl.DataFrame]:
        return (pl.DataFrame(work(bucket, **settings)) for bucket in buckets)

    monkeypatch.setattr(append, "map_tasks", map)
    for module in (fold_in, reroute):
        monkeypatch.setattr(module, "over_buckets", by_bucket)

    def go(before: dict[str, Artefact], users: list[str]) -> dict[str, Artefact]:
        day = tmp_path / f"day after {before['ingest'].key}"
        day.mkdir()
        items = read_items(before["ingest"].path())
        new = items.head(1).with_columns(item_id=pl.lit(f"new{len(items)}"))
        newest = max(pl.read_parquet(file)["ts"].max() for file in bucket_files(before["ingest"].path()))
        columns = {"user_id": users, "item_id": [new["item_id"][0]] * len(users), "label": [at % 2 for at in range(len(users))]}
        pl.DataFrame(columns | {"ts": [newest + 1 + at for at in range(len(users))]}).write_parquet(day / "interactions.parquet")
        pl.concat([items, new]).write_parquet(day / "items.parquet")
        dated = config.model_copy(update={"refresh": config.refresh.model_copy(update={"path": str(day)})})
        graph = {place: node for place, node in refresh_graph(dated, before).items() if place[0] in GOES_ON}
        return before | run_graph(dated, graph, reported.append)

    return go


@pytest.mark.parametrize("yesterday", ["mf", "sasrec"], indirect=True)
def test_log_vectors_and_routes_go_on(yesterday, go_on, reported):
    """No vector knows more than train, by the leak audit that stops runs; items, router and sample are the very files they were."""
    today = go_on(yesterday, ["newcomer", "u0000001"])
    assert [finding.check for finding in audit_artefacts({stage: today[stage] for stage in GOES_ON}) if finding.num_rows] == []
    before, after = (read_facts(made["encode"].path()) for made in (yesterday, today))
    assert after.num_rows > before.num_rows
    assert after.num_users >= before.num_users
    said = [event.text for event in reported if isinstance(event, Noted) and "sasrec" in event.text]
    assert [bool(said), read_scores(today["encode"].path()) is None] == [before.source == "sasrec"] * 2
    moves = today["cluster"].figures["moves"]
    assert sum(move["num_arrived"] - move["num_left"] for move in moves) == after.num_rows - before.num_rows
    for stage, names in (
        ("encode", ["items.parquet"]),
        ("cluster", ["router.safetensors", "router.json", "sample.parquet", "assignment.json"]),
    ):
        for name in names:
            assert today[stage].path(name).read_bytes() == yesterday[stage].path(name).read_bytes(), name
    for bucket in range(NUM_BUCKETS):
        routed = read_assignment(today["cluster"].path(), bucket)["user_id"]
        rows = pl.concat([pl.read_parquet(file)["user_id"] for file in bucket_files(today["ingest"].path(), [bucket])])
        assert set(routed) == set(rows) | set(read_bucket_vectors(today["encode"].path(), bucket)["id"])


def test_days_later_only_buckets_of_active_users_change(yesterday, go_on):
    """After the first days' cuts have moved on, a day of one user leaves the buckets of others byte for byte, vectors and routes too."""
    third = go_on(go_on(go_on(yesterday, ["u0000001"]), ["u0000001"]), ["u0000001"])
    fourth = go_on(third, ["u0000001"])
    others = {f"bucket={bucket:03d}" for bucket in range(NUM_BUCKETS)} - {f"bucket={bucket_of('u0000001', NUM_BUCKETS):03d}"}
    for stage in GOES_ON:
        files = [made[stage].manifest["files"] for made in (third, fourth)]
        same = {name for name in files[0] if files[0][name] == files[1].get(name)}
        assert {name.split("/")[1] for name in same if "bucket=" in name} >= others, stage
        assert all(name in same for name in files[0] if any(other in name for other in others)), stage
    assert fourth["ingest"].figures["num_buckets_copied"] == NUM_BUCKETS - 1
