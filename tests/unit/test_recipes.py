"""Every shipped recipe and sweep in small: its data is read in the source's own form; it is planned, trained, scored and explained.

The base is replaced by two random layers of the same kind, the log of the trial stands in for the data, and all of it happens here.
"""

from __future__ import annotations

import math
import tomllib
from pathlib import Path

import numpy as np
import pytest
from ingested import ingest_here
from small_sources import WRITERS
from tiny_folder import CHAT, LLAMA_8B, LLAMA_70B, make_folder, make_hollow

from thinkrec.config import run as run_file
from thinkrec.config.run import Config
from thinkrec.deploy import trial
from thinkrec.deploy.trial_inputs import write_inputs
from thinkrec.distributed.worker_group import Worker
from thinkrec.pipeline.checks import check_run
from thinkrec.pipeline.keys import stage_keys
from thinkrec.pipeline.stages import select_stages
from thinkrec.plan.machines import Machines
from thinkrec.plan.plan import make_plan
from thinkrec.plan.resolve import resolved
from thinkrec.prompt.catalogue import ArtefactPaths
from thinkrec.store.address import read_json
from thinkrec.store.artefacts import Store
from thinkrec.sweep import trials

JOBS = Path(__file__).parents[2] / "ray_jobs"
ON_GPUS = {  # what "auto" must take for each: the base fits a card whole, or has to be sharded
    "book_llama3_8b.toml": "zero1",
    "ml1m_llama3_8b.toml": "zero1",
    "ml1m_llama3_70b.toml": "zero3",
    "ml1m_traces_vllm.toml": "zero1",
    "yelp_llama3_8b.toml": "zero1",
}
RECIPES = sorted(JOBS.glob("recipes/*.toml"))
SWEEPS = sorted(JOBS.glob("sweeps/*.toml"))


@pytest.fixture(scope="module")
def two_layers(tmp_path_factory) -> str:
    """Llama-3 with two layers and small: grouped heads, its rotary base, a chat template, weights in bfloat16."""
    folder = tmp_path_factory.mktemp("two_layers")
    heads = {"num_attention_heads": 8, "num_key_value_heads": 2}
    return str(make_folder(folder, chat=CHAT, hidden_size=64, intermediate_size=224, **heads, dtype="bfloat16", rope_theta=500000.0))


@pytest.fixture
def recipe(tmp_path):
    """recipe(file) is the resolved run of a recipe over small data and a base that has the real one's shape and no weights."""

    def load(file: Path) -> Config:
        tree = tomllib.loads(file.read_text())
        (tmp_path / "data").mkdir()
        changes = {"run.dir": str(tmp_path / "run"), **WRITERS[tree["data"]["source"]](tmp_path / "data")}
        if tree.get("base", {}).get("source") == "folder":
            changes["base.path"] = str(make_hollow(tmp_path / "base", CHAT, **(LLAMA_70B if "70b" in file.stem else LLAMA_8B)))
        if tree.get("engine", {}).get("kind") == "vllm":
            teacher = f'[{{name="teacher",path="{changes["base.path"]}"}}]'
            changes |= {"engine.kind": "hf", "traces.teachers": teacher}  # vLLM need not be installed
        return resolved(run_file.load(file, [f"{key}={value}" for key, value in changes.items()]))

    return load


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_the_data_of_a_recipe_is_read_and_split(file, recipe, tmp_path):
    config = recipe(file)
    ready = ingest_here(tmp_path / "ingest", config.data, config.split, config.run.seed)
    assert set(ready.interactions["split"].unique()) == {"train", "valid", "test"}
    assert ready.quarantine.is_empty()
    assert set(ready.interactions["label"].unique()) == {0, 1}
    assert all(ready.items["title"])


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_a_recipe_fits_its_machines(file, recipe):
    """Under the file that the plan would take: ZeRO-3 for the base of 70B alone, of which a group stays inside a node of 8."""
    config = recipe(file)
    check_run(config)
    assert len(stage_keys(config)) == len(select_stages(config))
    assert config.train.use_gpu == (file.name in ON_GPUS)
    if not config.train.use_gpu:
        return
    plan = make_plan(config, Machines.parse("8x8" if "70b" in file.stem else "1x8"), 43_000, 838)
    assert config.train.ds_config == ON_GPUS[file.name]
    assert plan.notes[0].startswith(f"train.ds_config = {config.train.ds_config}: ")
    room = config.plan.memory_gib * 2**30 * (1 - config.plan.reserve_share)
    for phase in plan.phases:
        assert not phase.advice or (phase.advice.stage, phase.advice.fits) == (plan.zero_stage, True)
        assert phase.memory.total <= room
    assert config.train.gpus_per_scorer == (2 if "70b" in file.stem else 1)
    assert not any("cannot hold" in note or "spans nodes" in note or "does not fit" in note for note in plan.notes)


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_a_recipe_trains_scores_and_explains_in_small(file, recipe, two_layers, one_rank, tmp_path):
    config = recipe(file)
    if config.base.source == "folder":
        config = config.model_copy(update={"base": config.base.model_copy(update={"path": two_layers})})
    alone = config.train.model_copy(update={"num_workers": 1, "workers_per_group": 1})
    small = trial.shrunk(config.model_copy(update={"train": alone}))
    assert small.train.ds_config == config.train.ds_config
    store = Store(str(tmp_path / "trial"))
    task = trial.TrialTask(small, ArtefactPaths(write_inputs(small, store)), store.root, f"{store.root}/found.json")
    trial.try_phases(Worker(), task)
    found = trial.Tried(**(read_json(task.found) or {}))
    assert list(found.losses) == ["global", *["projector"] * (config.prompt.slots != "none"), "expert 0", "expert 1"]
    assert all(len(losses) == trial.NUM_STEPS and math.isfinite(sum(losses)) for losses in found.losses.values())
    assert np.isfinite(found.scores).all()
    assert len(set(found.scores)) > 1


@pytest.mark.parametrize("file", SWEEPS, ids=lambda file: file.stem)
def test_every_trial_of_a_sweep_can_be_planned(file, tmp_path):
    """Each changes a recipe that is tried above."""
    sweep = trials.load(file, [f"{key}={value}" for key, value in WRITERS["world"](tmp_path).items()])
    assert (file.parent / sweep.settings.recipe).resolve() in RECIPES
    for one in sweep.trials:
        check_run(one.config)
        plan = make_plan(one.config, Machines.of_config(one.config))
        assert not [note for note in plan.notes if "does not fit" in note]
