"""What a run cost is what its manifests, tables and logs say, and nothing where they say nothing."""

from __future__ import annotations

import json

import polars as pl
import pytest

from thinkrec.evaluate.run_report.cost import costs
from thinkrec.pipeline.stages import STAGES
from thinkrec.store.artefacts import Artefact, Store


@pytest.fixture
def inputs(tmp_path) -> dict[str, Artefact]:
    store = Store(str(tmp_path))
    with store.create("ingest", "k", {}, {}):
        pass
    with store.create("traces", "k", {}, {}) as draft:
        (draft.local() / "quarantine").mkdir()
        for name, tokens in (("traces", [5, 6]), ("quarantine/traces", [7])):
            pl.DataFrame({"num_tokens": tokens}, schema={"num_tokens": pl.Int32}).write_parquet(draft.local() / f"{name}.parquet")
    with store.create("experts", "k", {}, {}) as draft:
        for expert, peak in (("0", 300), ("1", 900)):
            folder = draft.local() / "experts" / expert
            folder.mkdir(parents=True)
            lines = [{"phase": "p", "step": 0, "loss": 1.0}, {"phase": "p", "step": 1, "loss": 1.0, "peak_bytes": peak}]
            (folder / "log.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = {}
    for name, wall_s, num_gpus in (("ingest", None, 0), ("traces", 1800.0, 1), ("experts", 3600.0, 6)):
        artefact = store.find(name, "k")
        found[name] = Artefact(artefact.uri, {**artefact.manifest, "wall_s": wall_s, "num_gpus": num_gpus})
    return found


def test_time_gpus_tokens_memory_and_disk(inputs):
    found = costs(inputs)
    rows = {row["stage"]: row for row in found["stages"]}
    assert list(rows) == list(inputs)
    assert (rows["traces"]["num_tokens"], rows["traces"]["gpu_hours"]) == (18, 0.5)  # refused answers cost as much as accepted ones
    assert (rows["experts"]["peak_bytes"], rows["experts"]["num_gpus"], rows["experts"]["gpu_hours"]) == (900, 6, 6.0)
    assert rows["experts"]["num_bytes"] == sum(file["bytes"] for file in inputs["experts"].manifest["files"].values()) > 0
    assert (found["total"]["wall_s"], found["total"]["gpu_hours"], found["total"]["num_tokens"]) == (5400.0, 6.5, 18)


def test_what_was_not_recorded_is_not_zero(inputs):
    row = costs(inputs)["stages"][0]
    assert [row[name] for name in ("wall_s", "gpu_hours", "num_tokens", "peak_bytes")] == [None] * 4
    assert costs({})["total"] == {"wall_s": None, "gpu_hours": None, "num_tokens": None, "num_bytes": None}


def test_a_committed_artefact_says_how_long_it_took_and_what_it_reserved(tmp_path):
    store = Store(str(tmp_path))
    with store.create("ingest", "k", {}, {}) as draft:
        draft.num_gpus = 3
    manifest = store.find("ingest", "k").manifest
    assert (0 <= manifest["wall_s"] < 60, manifest["num_gpus"]) == (True, 3)


def test_of_an_older_artefact_gpu_hours_are_unknown(inputs):
    manifest = {name: value for name, value in inputs["experts"].manifest.items() if name != "num_gpus"}
    row = costs({"experts": Artefact(inputs["experts"].uri, manifest)})["stages"][0]
    assert (row["num_gpus"], row["gpu_hours"]) == (None, None)


def test_every_stage_before_the_report_is_counted_in_the_order_of_the_run():
    *before, last = STAGES
    assert last.needs == tuple(stage.name for stage in before)
