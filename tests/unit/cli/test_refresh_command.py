"""`thinkrec refresh`: which runs and logs it refuses, what it would do, and what it says of who takes over."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

import thinkrec
from thinkrec.artefacts.promotion import Compared, Promotion
from thinkrec.cli.main import main
from thinkrec.config import reference
from thinkrec.config.refresh import RefreshSection
from thinkrec.pipeline.stages import STAGES
from thinkrec.refresh import refresh as refreshing
from thinkrec.refresh.stages import refresh_graph


@pytest.fixture
def run_file(finished, tmp_path) -> Path:
    (tmp_path / "run.toml").write_text(reference.run_toml(thinkrec.open_run(finished).settings))
    (tmp_path / "day").mkdir()
    (tmp_path / "day/interactions.parquet").write_bytes(b"rows")
    return tmp_path / "run.toml"


def call(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["refresh", *map(str, words)])
    return int(ended.value.code or 0)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "no new log is named"),
        (("--log", "nowhere"), "refresh.path names something that is not there"),
        (("--log", "day", "--set", "run.dir=none"), "there is no finished run here"),
        (("--log", "day", "--set", "cluster.num_clusters=5"), "made with other settings of cluster"),
    ],
)
def test_what_cannot_be_refreshed(run_file, monkeypatch, capsys, words, says):
    monkeypatch.chdir(run_file.parent)
    assert call(run_file, *words) == 2
    assert says in capsys.readouterr().err


def test_an_unfinished_run_is_refused(run_file, tmp_path, capsys):
    (tmp_path / "begun").mkdir()
    assert call(run_file, "--log", tmp_path / "day", "--set", f"run.dir={tmp_path / 'begun'}") == 2
    assert "the run here is not finished" in capsys.readouterr().err


@pytest.fixture
def played(finished, monkeypatch) -> list[str]:
    """A refresh that is played, with what it publishes; it is worse where a test says so."""
    artefacts = thinkrec.open_run(finished).artefacts
    ingest = SimpleNamespace(figures={"num_buckets_copied": 3})
    experts = SimpleNamespace(figures={"trained_on": [1], "kept": [0]})
    made = dict(artefacts) | {"ingest": ingest, "experts": experts, "promotion": artefacts["score"]}
    published: list[str] = []
    monkeypatch.setattr("thinkrec.cli.interrupt.interruptible", lambda stop_s: contextlib.nullcontext())
    monkeypatch.setattr(refreshing, "plan_refresh", lambda config, yesterday: {})
    monkeypatch.setattr(refreshing, "run_graph", lambda config, graph, report, session: made)
    monkeypatch.setattr(refreshing, "read_promotion", lambda folder: Promotion(9, 4, [compared(is_worse=False)]))
    monkeypatch.setattr(refreshing, "publish", lambda artefacts, run_dir: published.append(run_dir))
    return published


def compared(is_worse: bool) -> Compared:
    return {"metric": "auc", "before": 0.7, "after": 0.6 if is_worse else 0.8, "low": -0.2, "high": -0.1, "is_worse": is_worse}


@pytest.mark.parametrize("is_worse", [False, True])
def test_the_command_says_who_takes_over(run_file, finished, played, monkeypatch, capsys, is_worse):
    """Only a model that is promoted is published."""
    monkeypatch.setattr(refreshing, "read_promotion", lambda folder: Promotion(9, 4, [compared(is_worse)]))
    assert call(run_file, "--log", run_file.parent / "day") == 0
    said = capsys.readouterr().out
    assert "trained on [1], unchanged [0]" in said
    assert "-0.2000 to -0.1000" in said
    assert ("not promoted: today's model is worse in auc" in said) == is_worse
    assert played == ([] if is_worse else [str(finished)])


def test_a_run_that_another_has_published_since_is_not_overwritten(run_file, played, monkeypatch, capsys):
    monkeypatch.setattr(refreshing, "read_record", lambda uri, kind: {"run": {"key": "of another"}})
    assert call(run_file, "--log", run_file.parent / "day") == 4
    assert "another run was published here while this refresh was made" in capsys.readouterr().err
    assert played == []


def test_a_log_that_the_run_has_already_is_not_taken_in_again(run_file, finished, played, monkeypatch, capsys):
    """The run whose newest day this log is; another log of the same name is a new day."""
    run, day = thinkrec.open_run(finished), run_file.parent / "day"
    first = run.artefacts["ingest"]
    dated = run.settings.model_copy(update={"refresh": RefreshSection(path=str(day))})
    yesterday = {stage.name: run.artefacts.get(stage.name, first) for stage in STAGES if stage.is_in(run.settings)}
    key = dict(refresh_graph(dated, yesterday).keys())["ingest"]
    taken = replace(first, manifest=first.manifest | {"key": key, "inputs": {"ingest-before": {"stage": "ingest", "key": first.key}}})
    monkeypatch.setattr("thinkrec.run.finished_run", lambda config: SimpleNamespace(artefacts=run.artefacts | {"ingest": taken}))
    assert call(run_file, "--log", day) == 0
    assert "already taken in" in capsys.readouterr().out
    assert played == []
    (day / "interactions.parquet").write_bytes(b"other rows")
    assert call(run_file, "--log", day) == 0
    assert "already taken in" not in capsys.readouterr().out
    assert played == [str(finished)]
