"""All baselines of a data set in one table: ingest and the three encoders for real, in this process."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from thinkrec.config import run as run_file
from thinkrec.config.generation import KeywordsSection
from thinkrec.config.model import BaseSection
from thinkrec.data import ingest
from thinkrec.distributed.worker_group import Worker
from thinkrec.encoder import fit
from thinkrec.pipeline.keys import stage_keys
from thinkrec.store.artefacts import Store
from thinkrec.sweep import baseline_table

WORLD = {"num_users": 40, "num_items": 40, "interactions_per_user": 18}
COUNTED = ["item_rate", "user_item_rate", "history_rate", "logistic"]


@pytest.fixture
def fitted(monkeypatch) -> list[str]:
    """Ray's parts done here; the names of the encoders that were fitted."""
    names: list[str] = []

    def here(function, task, **options) -> None:
        names.append(task.config.encoder.source)
        function(Worker(), task)

    monkeypatch.setattr(fit, "run_on_workers", here)
    monkeypatch.setattr(ingest, "map_tasks", map)
    return names


@pytest.fixture
def config(tmp_path):
    """A run file whose language model is nowhere: baselines need none, nor does the prior where keywords are categories."""
    base = {"source": "folder", "path": str(tmp_path / "nowhere")}
    encoder = {"source": "sasrec", "num_epochs": 2}
    tree = {"run": {"dir": str(tmp_path / "run")}, "data": {"world": WORLD}, "encoder": encoder, "base": base}
    tree["keywords"] = {"source": "categories"}
    return run_file.parse(tree | {"evaluate": {"num_bootstrap": 20}})


def test_every_baseline_is_judged_on_the_same_rows_and_a_second_call_fits_nothing(config, fitted):
    sessions: list[str] = []

    @contextmanager
    def session(asked):
        sessions.append(asked.run.dir)
        yield

    found = baseline_table.run(config, lambda event: None, session)
    assert [row["name"] for row in found["metrics"]] == ["prior", *COUNTED, "mf", "lightgcn", "sasrec"]
    assert {row["against"] for row in found["differences"]} == {"user_item_rate"}
    assert fitted == ["mf", "lightgcn", "sasrec"]
    settings = {source: found["encoders"][source]["settings"]["num_epochs"] for source in found["encoders"]}
    assert settings == {"mf": 20, "lightgcn": 20, "sasrec": 2}  # the run file's own, and the defaults of the others
    assert json.loads(Path(config.run.dir, "baselines.json").read_text())["metrics"] == found["metrics"]

    again = baseline_table.run(config, lambda event: None, session)
    assert (again["metrics"], len(fitted), len(sessions)) == (found["metrics"], 3, 1)


def test_the_table_says_what_the_encoders_scored(config, fitted):
    config = config.model_copy(update={"keywords": KeywordsSection()})  # read out of texts: a prior on them would take a language model
    found = baseline_table.run(config, lambda event: None)
    assert "prior" not in [row["name"] for row in found["metrics"]]
    store = Store(config.run.dir)
    nano = config.model_copy(update={"base": BaseSection()})
    keys = stage_keys(nano)
    encode = store.find("encode", keys["encode"])  # the run of this file finds its own encoder committed
    log = pl.read_parquet(f"{store.find('ingest', keys['ingest']).path('interactions')}/*/*.parquet", hive_partitioning=False)
    rows = log.filter(split="test").join(pl.read_parquet(encode.path("scores.parquet")), on="row")
    area = next(row["metrics"]["auc"]["value"] for row in found["metrics"] if row["name"] == "sasrec")
    assert area == pytest.approx(roc_auc_score(rows["label"], rows["score"]), abs=1e-12)
    assert found["num_rows"] == rows.height
