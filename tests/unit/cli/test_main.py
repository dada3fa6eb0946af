"""The command: what it prints, its exit codes, and that errors made on purpose never show a traceback."""

from __future__ import annotations

import errno
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from thinkrec.cli.main import main
from thinkrec.config import run as run_file
from thinkrec.config.run import Config
from thinkrec.errors import ConfigError, EnvironmentFault, StageFailed
from thinkrec.pipeline.keys import stage_keys
from thinkrec.pipeline.stages import select_stages

ROOT = Path(__file__).parents[3]
RECIPE = str(ROOT / "ray_jobs/recipes/world_nano.toml")
ENTRIES = sorted((ROOT / "ray_jobs").glob("*.py"))
UNTIL = {"train_global": "global", "train_projector": "projector", "train_experts": "experts", "pipeline": "evaluate"}


def test_config_show_prints_every_key_and_reads_back(command):
    code, out, _ = command("config", "show", RECIPE, "--set", "run.seed=7", "--set", "data.world.num_items=50")
    assert code == 0
    shown = run_file.parse(json.loads(out))
    assert (shown.run.seed, shown.data.world.num_items) == (7, 50)
    assert shown == run_file.load(RECIPE, ["run.seed=7", "data.world.num_items=50"])


def test_a_dry_run_says_what_would_run_and_starts_nothing(command, tmp_path, monkeypatch):
    monkeypatch.setattr("thinkrec.cli.main.run_stages", lambda *arguments: pytest.fail("it ran"))
    code, out, _ = command("run", RECIPE, "--dry-run", "--until", "cluster")
    assert code == 0
    rows = [line.split(maxsplit=2) for line in out.splitlines()]
    keys = stage_keys(run_file.load(RECIPE))
    assert rows == [[name, keys[name], "to do"] for name in ("ingest", "encode", "cluster")]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ("run", "none.toml"),
        ("config", "show", RECIPE, "--set", "run.sed=1"),
        ("run", RECIPE, "--dry-run", "--until", "nothing"),
        ("evaluate", "none.parquet"),
    ],
    ids=" ".join,
)
def test_the_users_mistake_is_exit_2_and_a_few_lines(command, words):
    code, out, err = command(*words)
    assert (code, out) == (2, "")
    assert err.startswith("thinkrec: ")
    assert "  fix:  " in err
    assert "Traceback" not in err
    assert "resume with" not in err


@pytest.mark.parametrize(
    "words",
    [
        ("run",),
        ("nothing",),
        ("run", RECIPE, "--nothing"),
        ("evaluate", "s.csv", "--num-bootstrap", "0"),
        ("evaluate", "s.csv", "--seed", "-1"),
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_is_exit_2_with_its_usage(command, words):
    code, _, err = command(*words)
    assert code == 2
    assert "Usage:" in err


@pytest.mark.parametrize(("error", "expected"), [(EnvironmentFault("no GPU"), 3), (StageFailed("lost"), 4)], ids=["environment", "run"])
def test_other_failures_have_their_own_codes_and_a_lost_run_says_how_to_resume(command, monkeypatch, error, expected):
    def fail(*arguments):
        raise error

    monkeypatch.setattr("thinkrec.cli.main.run_stages", fail)
    code, _, err = command("run", RECIPE, "--set", "run.dir=a run")
    assert code == expected
    assert f"thinkrec: {error.what}" in err
    assert ("resume with: thinkrec run" in err and "'run.dir=a run'" in err) == (expected == 4)


def test_a_full_disk_is_no_bug_whoever_meets_it(command, monkeypatch):
    def fail(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("thinkrec.cli.main.run_stages", fail)
    code, _, err = command("run", RECIPE)
    assert code == 3
    assert "disk full" in err
    assert "fix:" in err


def test_a_bug_shows_itself(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("thinkrec.cli.main.run_stages", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["run", RECIPE])


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda path: path.stem)
def test_every_ray_job_makes_its_own_stage(entry, monkeypatch, tmp_path):
    asked = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(entry), RECIPE, "--set", "run.seed=9"])
    monkeypatch.setattr("thinkrec.cli.main.run_stages", lambda config, until: asked.append((config.run.seed, until or "evaluate")))
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(entry), run_name="__main__")
    assert not caught.value.code
    assert asked == [(9, UNTIL.get(entry.stem, entry.stem))]


def test_there_is_a_ray_job_for_every_stage():
    assert {UNTIL.get(entry.stem, entry.stem) for entry in ENTRIES} == {stage.name for stage in select_stages(Config())}


def test_the_module_is_the_command(tmp_path):
    def thinkrec(*words: str) -> subprocess.CompletedProcess[str]:
        environment = {"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(tmp_path)}
        return subprocess.run(
            [sys.executable, "-m", "thinkrec", *words], capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=60
        )

    done = thinkrec("config", "show", RECIPE)
    assert run_file.parse(json.loads(done.stdout)) == run_file.load(RECIPE)
    failed = thinkrec("run", "none.toml")
    assert failed.returncode == ConfigError.exit_code
    assert re.match(r"thinkrec: the run file is not there\n  where: none\.toml\n  fix:  ", failed.stderr)
