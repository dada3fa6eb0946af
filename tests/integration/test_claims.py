"""The paper's claims in the planted world, on the real line (Ray, DeepSpeed, FAISS), each with the control that must fail.

Every figure is a paired difference on the same test rows with its 95 % user-bootstrap interval; seeds are fixed.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import polars as pl
import pytest

from thinkrec import config as config_room
from thinkrec import pipeline
from thinkrec.evaluate.scoreboard import measure
from thinkrec.store import Artefact

pytestmark = [pytest.mark.long, pytest.mark.cluster, pytest.mark.timeout(1800)]

WORLD = {"num_users": 500, "interactions_per_user": 40, "num_items": 240, "annotated_share": 1.0}


@pytest.fixture(scope="module")
def run_world(ray_cluster, tmp_path_factory):
    """run_world(logics) runs ingest to score once and returns the artefacts."""
    root = tmp_path_factory.mktemp("claims")

    @cache
    def run(num_logics: int) -> dict[str, Artefact]:
        tree: dict[str, Any] = {
            "run": {"dir": str(root / "run")},
            "data": {"world": {**WORLD, "num_logics": num_logics}},
            "keywords": {"source": "categories"},
            "traces": {"enabled": False},
            "cluster": {"num_clusters": 2},
            "prompt": {"titles": False, "priors": False, "history_length": 4},
            "base": {"nano": {"num_epochs": 3, "batch_size": 16, "lr": 2e-3, "window": 12}},
            "train": {"global_adapter": {"lr": 2e-3}, "experts": {"lr": 2e-3, "num_epochs": 3}},
            "evaluate": {"num_explanations": 1},
        }
        return pipeline.run(config_room.parse(tree), lambda event, **fields: None, until="score")

    return run


def scored(artefacts: dict[str, Artefact]) -> pl.DataFrame:
    """Test rows with one column a variant."""
    variants = ("global", "experts", "fusion")
    tables = [pl.read_parquet(artefacts["score"].path(f"scores/{name}.parquet")) for name in variants]
    columns = [table.select("row", pl.col("score").alias(name)) for name, table in zip(variants, tables, strict=True)]
    rows = tables[0].select("row", "user_id", "item_id", "label")
    for column in columns:
        rows = rows.join(column, on="row")
    return rows


def difference(rows: pl.DataFrame, name: str, against: str, metric: str = "auc"):
    measured = measure(rows, (name, against), 500, 0)
    return measured[name].minus(measured[against])[metric]


def test_experts_beat_the_global_adapter_on_conflicting_logics(run_world):
    rows = scored(run_world(2))
    assert difference(rows, "experts", "global").low > 0.02
    assert difference(rows, "experts", "global", "uauc").low > 0.02


def test_experts_do_not_beat_it_on_one_shared_logic(run_world):
    rows = scored(run_world(1))
    assert difference(rows, "experts", "global").low <= 0.01
