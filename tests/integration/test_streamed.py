"""The global adapter begins with the first traces while teachers write the rest, and ends as if it had waited for all."""

from __future__ import annotations

import shutil

import polars as pl
import pytest
from tiny import TINY

from thinkrec.config import run as run_file
from thinkrec.events import StageDone, StageStarted
from thinkrec.pipeline.execute import run_stages

pytestmark = [pytest.mark.long, pytest.mark.cluster, pytest.mark.timeout(1800)]

TAUGHT = {"num_lessons": 300, "num_epochs": 12, "lr": 5e-3}  # enough for a teacher of whose answers some are accepted
TREE = {
    **TINY,
    "prompt": {**TINY["prompt"], "titles": False, "priors": False},
    "traces": {**TINY["traces"], **TAUGHT, "num_instances": 60, "max_same_text": 60, "start_share": 0.5},
    "train": {**TINY["train"], "global_adapter": {"num_epochs": 2}},
}
MADE = ("traces-first", "traces", "ledger", "instances-first", "instances", "global-first", "global")


def test_what_is_learned_does_not_depend_on_when_traces_came(ray_cluster, tmp_path, reported):
    def run(name: str, until: str):
        config = run_file.parse({**TREE, "run": {"dir": str(tmp_path / name)}})
        return run_stages(config, reported.append, until=until)

    run("waited", "traces")
    waited = run("waited", "global")
    shutil.copytree(tmp_path / "waited", tmp_path / "streamed", ignore=shutil.ignore_patterns(*MADE, "ray", "checkpoints"))
    reported.clear()
    streamed = run("streamed", "global")
    events = [(type(event), getattr(event, "stage", "")) for event in reported]
    assert events.index((StageStarted, "global-first")) < events.index((StageDone, "traces"))
    weights = [found["global"].path("adapter/adapter_model.safetensors").read_bytes() for found in (waited, streamed)]
    assert weights[0] == weights[1]

    log = pl.read_ndjson(streamed["global"].path("log.jsonl"))["step"].to_list()
    assert log == list(range(streamed["global"].figures["num_steps"]))
    assert 0 < streamed["global-first"].figures["num_steps"] < len(log)

    first, traces = (pl.read_parquet(streamed[stage].path("traces.parquet")) for stage in ("traces-first", "traces"))
    assert 0 < first.height < traces.height
    assert traces.head(first.height).equals(first)
