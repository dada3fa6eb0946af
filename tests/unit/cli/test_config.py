"""`thinkrec config`, and that every command reads a run file by the one loader."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from thinkrec.config import run as run_file
from thinkrec.config.reference import page
from thinkrec.config.toml import flat
from thinkrec.errors import ConfigError
from thinkrec.pipeline.checks import check_run
from thinkrec.pipeline.keys import stage_keys
from thinkrec.plan import resolve
from thinkrec.sweep import trials

OPEN = "[train]\nworkers_per_group = 0\nuse_gpu = true\n"  # ds_config is auto
SWEEP = 'title = "T"\nrecipe = "run.toml"\ndir = "runs/s"\nreference = "a"\n[trials.a]\n[trials.b]\nset.run.seed = 7\n'


@pytest.fixture
def command(command, tmp_path):
    """The command in a folder with a run file that leaves things open and a sweep of it."""
    (tmp_path / "run.toml").write_text(OPEN)
    (tmp_path / "sweep.toml").write_text(SWEEP)
    return command


def test_run_sweep_show_and_plan_fill_in_what_is_open_alike(command, tmp_path):
    loaded = resolve.load("run.toml")
    assert (loaded.train.workers_per_group, loaded.train.ds_config) == (1, "nano")
    shown = [run_file.parse(json.loads(command("config", "show", "run.toml")[1])), run_file.parse(tomllib.loads(toml_of(command)))]
    assert shown == [loaded, loaded]
    assert command("sweep", "sweep.toml", "--plan")[0] == 0
    assert {trial.config.train for trial in trials.load(tmp_path / "sweep.toml").trials} == {loaded.train}
    code, out, _ = command("run", "run.toml", "--dry-run")
    assert (code, [line.split()[1] for line in out.splitlines()]) == (0, [*stage_keys(loaded).values()])
    code, out, _ = command("plan", "run.toml", "--json")
    assert (code, json.loads(out)["layout"]["workers_per_group"], json.loads(out)["ds_config"]) == (0, 1, "nano")


def toml_of(command) -> str:
    code, out, _ = command("config", "show", "run.toml", "--toml")
    assert code == 0
    return out


def test_what_nobody_filled_in_is_refused_in_words_of_the_run_file():
    for key, settings in (("train.ds_config", {"use_gpu": True}), ("train.workers_per_group", {"workers_per_group": 0})):
        with pytest.raises(ConfigError, match="chosen yet") as caught:
            check_run(run_file.parse({"train": settings}))
        assert caught.value.where == key
        assert "resolve" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "anew"),
    [
        ("train.experts.lr", "anew: experts and"),
        ("train.num_groups", "makes nothing anew"),
        ("train.loss", "anew: global, projector, experts, score and"),
        ("run.seed", "anew: ingest, encode"),
    ],
)
def test_explain_says_what_a_change_makes_anew(command, key, anew):
    code, out, _ = command("config", "explain", key)
    assert (code, anew in out) == (0, True), out


def test_a_wrong_key_is_exit_2_with_near_names(command):
    code, out, err = command("config", "explain", "train.num_group")
    assert (code, out) == (2, "")
    assert "did you mean train.num_groups" in err


def test_the_reference_is_printed_as_it_is_kept(command):
    assert command("config", "reference")[1] == page()


def test_a_plan_needs_neither_the_model_nor_the_data(command, tmp_path: Path):
    """Only their shape and size; a shape by name and a config.json alone agree."""
    gpus = {
        "base": {"source": "folder", "path": "model", "dtype": "bfloat16"},
        "traces": {"enabled": False},
        "train": {"micro_batch_tokens": 512},
    }
    words = ["plan", "run.toml", "--json", "--gpus", "1x8", "--num-rows", "1000000", "--num-users", "6040"]
    words += [f"--set={key}={value}" for key, value in {"data.source": "movielens1m", "data.path": "ml1m"}.items()]
    words += [f"--set={key}={json.dumps(value)}" for key, value in flat(gpus).items()]
    code, _, err = command(*words)
    assert (code, "base" in err) == (2, True)  # nothing tells the shape
    code, out, err = command(*words, "--set", "plan.base_shape=llama3_8b")
    assert code == 0, err
    named = json.loads(out)
    assert named["num_params"] == 8_030_261_248
    assert [stage["key"] for stage in named["stages"] if stage["name"] in ("ingest", "base", "global")] == ["", "", ""]
    assert any(note.startswith("base.path is not here") for note in named["notes"])
    (tmp_path / "model").mkdir()
    heads = {"num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256}
    (tmp_path / "model/config.json").write_text(json.dumps({"hidden_size": 4096, "intermediate_size": 14336, **heads}))
    code, out, err = command(*words)
    assert code == 0, err
    alone = json.loads(out)
    assert {key for key in alone if alone[key] != named[key]} <= {"stages"}
    assert {stage["name"] for stage in alone["stages"] if stage["key"]} == {"teacher", "traces", "references"}  # off: they need nothing


def test_a_shape_by_name_is_in_no_key(command):
    first, second = (stage_keys(resolve.load("run.toml", [f"plan.base_shape={name}"])) for name in ("", "llama3_8b"))
    assert first == second
