"""`thinkrec recommend` on a finished run: what it says, and which runs it refuses."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import pytest

import thinkrec
from thinkrec.cli.main import main
from thinkrec.config import reference
from thinkrec.recommend import lists


@pytest.fixture
def run_file(finished, tmp_path) -> Path:
    (tmp_path / "run.toml").write_text(reference.run_toml(thinkrec.open_run(finished).settings))
    return tmp_path / "run.toml"


def call(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["recommend", *words])
    return int(ended.value.code or 0)


def test_a_dry_run_counts_and_makes_nothing(run_file, finished, capsys):
    assert call(str(run_file), "--dry-run") == 0
    said = capsys.readouterr().out
    assert "users:      40" in said
    assert "up to 4,000 to score" in said
    assert "2 of 2 to do" in said
    assert call(str(run_file), "--dry-run", "--judge") == 0
    assert "known when their buckets are read" in capsys.readouterr().out
    assert not (finished / "recommendations").exists()


def test_lists_are_counted_and_named(run_file, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("thinkrec.distributed.session.ray_session", lambda config: contextlib.nullcontext())

    def stream(buckets, config, places, task):
        actor = lists.BucketRecommender(config, places, task)
        for bucket in buckets:
            actor.write(bucket)
            yield bucket

    monkeypatch.setattr(lists, "_stream", stream)
    (tmp_path / "users.csv").write_text("user_id\nu001\nsomebody new\n")
    words = ("--users", str(tmp_path / "users.csv"), "--top", "3", "--out", str(tmp_path / "out"), "--set", "recommend.seen=true")
    assert call(str(run_file), *words) == 0
    said = capsys.readouterr().out
    assert "num_unknown                     1" in said
    assert "may come again" in said
    assert said.endswith(f"lists: {tmp_path / 'out'}\n")
    assert call(str(run_file), *words[:-1], "recommend.seen=false") == 2
    assert "other lists lie here" in capsys.readouterr().err


def test_a_run_that_is_missing_unfinished_or_another_is_refused(run_file, finished, tmp_path, capsys):
    assert call(str(run_file), "--set", f"run.dir={tmp_path / 'gone'}") == 2
    assert "no finished run here" in capsys.readouterr().err
    (tmp_path / "begun").mkdir()
    assert call(str(run_file), "--set", f"run.dir={tmp_path / 'begun'}") == 2
    assert "is not finished" in capsys.readouterr().err
    assert call(str(run_file), "--set", "prompt.history_length=5") == 2
    assert "made with other settings of prompt" in capsys.readouterr().err
    shutil.copytree(finished, tmp_path / "moved")
    assert call(str(run_file), "--set", f"run.dir={tmp_path / 'moved'}", "--set", "evaluate.batch_tokens=99", "--dry-run") == 0
