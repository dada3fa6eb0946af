"""The job line: exact, and only for runs that a resubmission can resume."""

from __future__ import annotations

import json
import shlex
from types import SimpleNamespace

import pytest

from thinkrec.config import run as run_file
from thinkrec.deploy import submit
from thinkrec.errors import ConfigError, EnvironmentFault

RUN_FILE = '[run]\ndir = "s3://bucket/runs/mine"\n'


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "run.toml").write_text(RUN_FILE)
    return tmp_path


def test_the_line_says_everything(folder):
    file = folder / "jobs" / "run.toml"
    made = submit.make_submission(run_file.load(file), file, ["prompt.domain=board game", "run.seed=7"], "experts")
    words = shlex.split(made.line())
    before, after = words[: words.index("--")], words[words.index("--") + 1 :]
    assert before[:7] == ["ray", "job", "submit", "--address", "http://127.0.0.1:8265", "--working-dir", "."]
    assert json.loads(before[before.index("--runtime-env-json") + 1]) == {"excludes": list(submit.EXCLUDES)}
    overrides = ["--set", "prompt.domain=board game", "--set", "run.seed=7"]
    assert after == ["python", "-m", "thinkrec", "run", "jobs/run.toml", *overrides, "--until", "experts"]
    assert shlex.split(made.entrypoint) == after


def test_a_relative_run_folder_could_not_be_resumed(folder):
    file = folder / "jobs" / "run.toml"
    with pytest.raises(ConfigError, match=r"relative"):
        submit.make_submission(run_file.load(file, ["run.dir=runs/mine"]), file)
    submit.make_submission(run_file.load(file, [f"run.dir={folder}"]), file)


def test_a_run_file_that_stays_behind_is_refused(folder):
    file = folder / "jobs" / "run.toml"
    (folder / "other").mkdir()
    with pytest.raises(ConfigError, match="outside the working directory"):
        submit.make_submission(run_file.load(file, ["ray.working_dir=other"]), file)
    with pytest.raises(ConfigError, match="not there"):
        submit.make_submission(run_file.load(file, ["ray.working_dir=none"]), file)


def test_a_run_in_the_making_is_not_sent_twice(folder):
    made = submit.make_submission(run_file.load(folder / "jobs" / "run.toml"), folder / "jobs" / "run.toml")
    jobs = [
        SimpleNamespace(status="SUCCEEDED", metadata={"run_dir": made.run_dir}, submission_id="old"),
        SimpleNamespace(status="RUNNING", metadata={"run_dir": "s3://bucket/runs/other"}, submission_id="other"),
        SimpleNamespace(status="RUNNING", metadata=None, submission_id="foreign"),
    ]
    client = SimpleNamespace(list_jobs=lambda: jobs)
    submit._refuse_second(client, made)
    jobs.append(SimpleNamespace(status="PENDING", metadata={"run_dir": made.run_dir}, submission_id="living"))
    with pytest.raises(EnvironmentFault, match="living"):
        submit._refuse_second(client, made)


def test_an_open_cluster_elsewhere_gets_no_job(folder, monkeypatch):
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    file = folder / "jobs" / "run.toml"
    made = submit.make_submission(run_file.load(file, ["ray.dashboard=http://10.0.0.5:8265"]), file)
    with pytest.raises(EnvironmentFault, match="no token"):
        submit.send(made, False, print)
