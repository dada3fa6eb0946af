"""A sweep of tiny worlds on the real engines: shared stages made once, trials compared, and a second sweep idle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny import TINY, write_run_file

from thinkrec.artefacts.scores import read_scores, scored_variants
from thinkrec.evaluate.metrics.table import difference_rows, measure
from thinkrec.events import Event, NothingToDo, StageStarted, SweepStarted
from thinkrec.store.artefacts import Store
from thinkrec.sweep import run as run_room
from thinkrec.sweep import trials
from thinkrec.sweep.graph import places

pytestmark = [pytest.mark.long, pytest.mark.cluster, pytest.mark.timeout(1800)]

TRIALS = """
title = "Number of experts and what else a trial can be"
recipe = "run.toml"
reference = "experts_1"
num_parallel = 2
set.keywords.source = "categories"
set.traces.enabled = false
set.prompt.slots = "none"

[trials.experts]
grid.cluster.num_clusters = [1, 2]

[trials.hard]
variant = "experts"

[trials.moved]
set.run.seed = 7
set.cluster.num_clusters = 1
model_of = "experts_1"
"""


class Swept:
    """One sweep on the engines, what it reported, and where it lies."""

    def __init__(self, root: Path) -> None:
        write_run_file(root / "run.toml")
        (root / "sweep.toml").write_text(f'dir = "{root / "swept"}"\n{TRIALS}')
        self.root = root / "swept"
        self.sweep = trials.load(root / "sweep.toml")
        self.reported: list[Event] = []

    def run(self) -> dict[str, Any]:
        self.reported.clear()
        compared = run_room.run(self.sweep, self.reported.append)
        return json.loads(compared.path("comparison.json").read_text())

    def started(self) -> list[str]:
        return [event.stage for event in self.reported if isinstance(event, StageStarted)]


@pytest.fixture(scope="module")
def swept(ray_cluster, tmp_path_factory) -> tuple[Swept, dict[str, Any], list[str]]:
    """The sweep, its comparison, and the stages that were started."""
    made = Swept(tmp_path_factory.mktemp("sweep"))
    found = made.run()
    return made, found, made.started()


def test_shared_stages_run_once(swept):
    _, _, started = swept
    expected = {"base": 1, "global": 1} | dict.fromkeys(
        ("ingest", "encode", "extractor", "keywords", "teacher", "traces", "instances", "projector", "references"), 2
    )
    expected |= dict.fromkeys(("cluster", "experts", "score", "evaluate"), 3)
    assert {stage: started.count(stage) for stage in expected} == expected


def test_the_comparison_is_that_of_the_scores_themselves(swept):
    made, found, _ = swept
    store, where = Store(made.sweep.settings.dir), places(made.sweep.trials)
    tables = {
        name: read_scores(store.find(*where[name]["score"]).path(), variant).sort("row")
        for name, variant in (("experts_1", "global"), ("experts_2", "fusion"))
    }
    wide = tables["experts_1"].select("user_id", "label", experts_1="score").with_columns(experts_2=tables["experts_2"]["score"])
    measured = measure(wide, list(tables), TINY["evaluate"]["num_bootstrap"], 42)
    [expected] = difference_rows(measured, [("experts_2", "experts_1")])
    [row] = [row for row in found["differences"] if row["name"] == "experts_2"]
    for metric, cell in expected["metrics"].items():  # but for p of Holm: this comparison does not stand alone there
        assert {**row["metrics"][metric], "p_holm": cell["p"]} == cell
    assert [row["num_experts"] for row in found["trials"]] == [0, 2, 2, 0]
    assert found["unpaired"] == {"moved": "other test rows"}
    assert not found["failed"]


def test_another_model_serves_the_moved_trial(swept):
    made, _, _ = swept
    store, where = Store(made.sweep.settings.dir), places(made.sweep.trials)
    score = store.find(*where["moved"]["score"])
    inputs = score.manifest["inputs"]
    assert inputs["global"]["key"] == where["experts_1"]["global"][1]
    assert inputs["ingest"]["key"] != where["experts_1"]["ingest"][1]


def test_every_trial_has_its_own_report_and_adapters(swept):
    made, found, _ = swept
    assert "<svg" in (made.root / "comparison.html").read_text()
    assert sorted(path.name for path in (made.root / "trials").iterdir()) == sorted(row["name"] for row in found["trials"])
    for name, adapters in (("experts_1", ["global"]), ("experts_2", ["expert-0", "expert-1", "global"])):
        assert sorted(path.name for path in (made.root / "trials" / name / "adapters").iterdir()) == adapters
    alone = Store(made.sweep.settings.dir).find(*places(made.sweep.trials)["experts_1"]["score"])
    assert scored_variants(alone.path()) == ["global"]  # one adapter: nothing to fuse
    reports = {name: json.loads((made.root / "trials" / name / "report.json").read_text()) for name in ("experts_1", "experts_2")}
    assert [len(report["portraits"]) for report in reports.values()] == [1, 2]


def test_a_second_sweep_does_no_work_and_says_so(swept):
    made, found, _ = swept
    assert made.run() == found
    assert made.started() == []
    assert [type(event) for event in made.reported] == [SweepStarted, NothingToDo]
