"""The line without traces and experts, as the recipes world_tallrec and world_collm have it; here on SASRec's vectors and two workers."""

from __future__ import annotations

import json

import polars as pl
import pytest
from tiny import TINY

from thinkrec import config as config_room
from thinkrec import pipeline

pytestmark = [pytest.mark.long, pytest.mark.cluster, pytest.mark.timeout(900)]


def test_one_adapter_on_vectors_goes_through_every_stage(ray_cluster, tmp_path):
    tree = {
        **TINY,
        "run": {"dir": str(tmp_path)},
        "encoder": {"source": "sasrec", "dim": 8, "num_epochs": 2},
        "cluster": {"num_clusters": 1},
        "traces": {"enabled": False},
    }
    config = config_room.parse(tree)
    assert config.train.num_workers == 2
    artefacts = pipeline.run(config, lambda event, **fields: None)
    assert artefacts["experts"].figures == {"used": False}
    assert artefacts["projector"].figures["num_steps"] == 2
    assert [file.name for file in artefacts["score"].path("scores").iterdir()] == ["global.parquet"]
    scores = pl.read_parquet(artefacts["score"].path("scores/global.parquet"))
    encoded = pl.read_parquet(artefacts["encode"].path("scores.parquet"))
    assert sorted(scores["row"]) == sorted(encoded["row"])
    report = json.loads(artefacts["evaluate"].path("report.json").read_text())
    names = [row["name"] for row in report["metrics"]]
    assert (report["best"], names[0], names[-1]) == ("global", "global", "sasrec")
