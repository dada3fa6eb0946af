"""`thinkrec init` as it is typed: it says what it found, and the run file it writes is taken by the other commands."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_sources import movielens1m


@pytest.fixture
def command(command, tmp_path):
    """The command in a folder with MovieLens in small."""
    (tmp_path / "data").mkdir()
    movielens1m(tmp_path / "data")
    return command


def test_a_run_file_is_written_and_taken_by_run_show_and_plan(command, tmp_path: Path):
    code, out, err = command("init", "data", "--out", "jobs/films.toml")
    assert code == 0, err
    assert "MovieLens as .dat files" in out
    assert "next: thinkrec run jobs/films.toml --dry-run" in out
    assert 'dir = "runs/films"' in (tmp_path / "jobs/films.toml").read_text()
    for words in (
        ("run", "jobs/films.toml", "--dry-run"),
        ("config", "show", "jobs/films.toml"),
        ("plan", "jobs/films.toml", "--num-rows", "484"),
    ):
        code, _, err = command(*words)
        assert code == 0, err


def test_no_file_is_written_over_and_a_mistake_is_exit_2(command, tmp_path: Path):
    (tmp_path / "run.toml").write_text("mine")
    code, _, err = command("init", "data")
    assert (code, "there is a file already" in err) == (2, True)
    assert (tmp_path / "run.toml").read_text() == "mine"
    code, _, err = command("init", "gone", "--out", "x.toml")
    assert (code, "no such file or folder" in err, "Traceback" in err) == (2, True, False)
    code, _, err = command("init", "data", "--out", "x.toml", "--set", "data.like_treshold=3")
    assert (code, "did you mean 'data.like_threshold'" in err) == (2, True)
    assert not (tmp_path / "x.toml").exists()
