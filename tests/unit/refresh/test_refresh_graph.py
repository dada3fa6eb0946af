"""What a refresh makes and what it takes as it is, by the artefacts of a finished run; and which settings make what anew."""

from __future__ import annotations

from pathlib import Path

import pytest

import thinkrec
from thinkrec.config.generation import TracesSection
from thinkrec.config.refresh import RefreshSection
from thinkrec.config.run import Config
from thinkrec.errors import ConfigError, MissingFileError
from thinkrec.pipeline.graph import Graph
from thinkrec.pipeline.stages import STAGES
from thinkrec.refresh.refresh import plan_refresh
from thinkrec.refresh.stages import KEPT, rows

MADE_ANEW = ["ingest", "encode", "cluster", "keywords", "prior", "instances", "experts", "score", "references", "score-before", "promotion"]
FROM_EXPERTS = {"experts", "score", "promotion", "evaluate"}  # and references, where teachers are asked


@pytest.fixture
def run(finished) -> thinkrec.Run:
    return thinkrec.open_run(finished)


@pytest.fixture
def plan(run, tmp_path):
    """plan(name=value, ...) -> the graph of a refresh with these settings of [refresh], by a log that lies there."""
    day = tmp_path / "day"
    day.mkdir()
    (day / "interactions.parquet").write_bytes(b"rows")

    def make(log: str | Path = day, teacher: str = "", **settings: object) -> Graph:
        # The finished run was made without some stages; they stand for themselves here.
        yesterday = {stage.name: run.artefacts.get(stage.name, run.artefacts["ingest"]) for stage in STAGES if stage.is_in(run.settings)}
        config: Config = run.settings.model_copy(update={"refresh": RefreshSection(path=str(log), **settings)})
        if teacher:
            traces = {"enabled": True, "teachers": [{"name": "teacher", "path": teacher}]}
            config = config.model_copy(update={"traces": TracesSection.model_validate(traces)})
        return plan_refresh(config, yesterday)

    return make


def keys(graph: Graph) -> dict[str, str]:
    return dict(graph.keys())


def test_every_stage_of_a_run_is_made_or_kept(plan, run):
    graph = plan()
    assert [stage for stage, _ in graph] == [*MADE_ANEW, "evaluate"]
    assert {stage.name for stage in STAGES if stage.is_in(run.settings)} <= {*MADE_ANEW, "evaluate", *KEPT}
    assert not set(MADE_ANEW) & set(KEPT)


def test_stages_go_on_from_what_they_were_and_yesterdays_model_is_asked_about_todays_rows(plan, run):
    nodes = {stage: node for (stage, _), node in plan().items()}
    was = {stage: artefact.key for stage, artefact in run.artefacts.items()}
    assert nodes["ingest"].inputs == {"ingest-before": ("ingest", was["ingest"])}
    assert nodes["experts"].inputs["experts-before"] == ("experts", was["experts"])
    assert nodes["experts"].inputs["global"] == ("global", was["global"])
    before, after = nodes["score-before"].inputs, nodes["score"].inputs
    assert before.keys() == after.keys()
    assert {name for name in before if before[name] != after[name]} == {"encode", "cluster", "experts"}
    assert {before[name] for name in ("encode", "cluster", "experts")} == {(name, was[name]) for name in ("encode", "cluster", "experts")}
    assert set(nodes["promotion"].inputs) == {"score", "score-before"}


def test_an_opened_run_finds_all_that_it_asks_for(plan, run):
    """The inputs of `evaluate` are the run, each in the folder of its own name."""
    judged = {stage: node for (stage, _), node in plan().items()}["evaluate"].inputs
    assert all(name == stage for name, (stage, _) in judged.items())
    assert judged.keys() >= run.artefacts.keys() - {"evaluate"}


@pytest.mark.parametrize(
    ("settings", "anew"),
    [
        ({"proximal": 0.1}, FROM_EXPERTS),
        ({"moved_share": 0.5}, FROM_EXPERTS),
        ({"num_steps": 3}, FROM_EXPERTS),
    ],
)
def test_a_setting_makes_what_reads_it(plan, settings, anew):
    first, second = keys(plan()), keys(plan(**settings))
    assert {stage for stage in first if first[stage] != second[stage]} == anew


def test_another_day_makes_everything_anew(plan, tmp_path):
    first, day = keys(plan()), tmp_path / "day/interactions.parquet"
    day.write_bytes(b"other rows")
    second = keys(plan())
    assert {stage for stage in first if first[stage] == second[stage]} == {"references"}  # nobody is asked for any in this run


def test_experts_train_on_for_a_few_steps_of_their_own_phase(plan, run):
    nodes = {stage: node for (stage, _), node in plan(num_steps=3).items()}
    assert nodes["experts"].config.train.experts.max_steps == 3
    assert nodes["score"].config.train.experts == run.settings.train.experts == nodes["evaluate"].config.train.experts


def test_no_log_is_named_or_there(plan):
    with pytest.raises(ConfigError, match="no new log is named"):
        plan("")
    with pytest.raises(MissingFileError, match=r"refresh\.path names something that is not there"):
        plan("nowhere")


def test_a_planted_teacher_knows_nothing_of_a_new_day(plan):
    with pytest.raises(ConfigError, match="a planted teacher explains the rows of its world alone"):
        plan(teacher="planted")
    assert plan(teacher="nano")


def test_stages_that_go_on_are_rows_with_what_the_runs_own_read():
    table, own = {stage.name: stage for stage in rows(Config())}, {stage.name: stage for stage in STAGES}
    for name in ("ingest", "encode", "cluster", "experts"):
        assert table[name].module != own[name].module
        assert set(table[name].reads) >= set(own[name].reads)
