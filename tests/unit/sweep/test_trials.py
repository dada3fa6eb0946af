"""The sweep file: what trials come out, and that every mistake names its trial and its key."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from thinkrec.config import run as run_file
from thinkrec.errors import ConfigError, MissingFileError
from thinkrec.pipeline.stages import select_stages
from thinkrec.sweep import trials
from thinkrec.sweep.graph import graph, places

ROOT = Path(__file__).parents[3]
SWEEPS = sorted((ROOT / "ray_jobs/sweeps").glob("*.toml"))


def names(sweep: trials.Sweep) -> list[str]:
    return [trial.name for trial in sweep.trials]


def test_a_trial_is_the_recipe_with_the_sets_of_file_command_and_trial(load):
    sweep = load("set.run.seed = 1\nset.cluster.num_clusters = 5\n[trials.a]\n[trials.b]\nset.cluster.num_clusters = 3\n", "adapter.rank=4")
    found = {trial.name: trial.config for trial in sweep.trials}
    assert {name: config.cluster.num_clusters for name, config in found.items()} == {"a": 5, "b": 3}
    assert {config.train.num_groups for config in found.values()} == {3}
    assert {(config.run.seed, config.adapter.rank, config.run.dir) for config in found.values()} == {(1, 4, sweep.settings.dir)}


def test_keys_may_be_tables_or_quoted_text(load):
    quoted = '[trials.a]\nset = { "train.experts.lr" = 0.5 }\n'
    one = load(quoted + "[trials.b]\nset.train.experts = { lr = 0.5 }\n[trials.b.set.train.loss]\nrank = 0.0")
    assert [trial.config.train.experts.lr for trial in one.trials] == [0.5, 0.5]
    assert one.trials[0].config == one.trials[1].config


def test_a_grid_is_a_trial_a_combination_named_after_it(load):
    sweep = load(
        '[trials.k]\ngrid.cluster.num_clusters = [1, 2]\ngrid.encoder.source = ["mf", "sasrec"]\nset.adapter.rank = 2', reference="k_1_mf"
    )
    assert names(sweep) == ["k_1_mf", "k_1_sasrec", "k_2_mf", "k_2_sasrec"]
    last = sweep.trials[-1].config
    assert (last.cluster.num_clusters, last.encoder.source, last.encoder.dim, last.adapter.rank) == (2, "sasrec", 64, 2)


def test_seeds_repeat_every_trial_with_its_own_reference_and_lender(load):
    sweep = load('seeds = [3, 5]\n[trials.a]\n[trials.b]\nmodel_of = "a"')
    found = [(trial.name, trial.base, trial.config.run.seed, trial.reference, trial.model_of) for trial in sweep.trials]
    assert found == [
        ("a_seed3", "a", 3, "a_seed3", ""),
        ("a_seed5", "a", 5, "a_seed5", ""),
        ("b_seed3", "b", 3, "a_seed3", "a_seed3"),
        ("b_seed5", "b", 5, "a_seed5", "a_seed5"),
    ]


def test_a_trial_may_compare_other_scores_than_the_sweep(load):
    sweep = load('variant = "global"\n[trials.a]\n[trials.b]\nvariant = "experts"')
    assert [trial.variant for trial in sweep.trials] == ["global", "experts"]


WRONG = {
    "key of the file": ("sead = 1\n[trials.a]", r"sead: unknown key; did you mean 'seeds'"),
    "key of a trial": ("[trials.a]\nmodle_of = 'b'", r"trials\.a\.modle_of: unknown key; did you mean 'trials\.a\.model_of'"),
    "key of the run file": ("[trials.a]\nset.cluster.num_cluster = 2", r"(?s)cluster\.num_cluster: .*'cluster\.num_clusters'.*trials\.a"),
    "value of the run file": ("[trials.a]\nset.train.experts.lr = -1", r"(?s)train\.experts\.lr: .*greater than 0.*trials\.a"),
    "value for a table": ("set.train = 3\n[trials.a]", r"(?s)train: .*with set"),
    "key below a value": ("[trials.a]\nset.train.num_groups.x = 1", r"(?s)'num_groups' in 'train.num_groups.x' is a value.*trials\.a"),
    "no trials": ("", r"trials: Field required"),
    "empty trials": ("[trials]", r"trials: .*at least 1"),
    "unknown variant": ("[trials.a]\nvariant = 'best'", r"trials\.a\.variant: .*'best'"),
    "unknown metric": ("metric = 'aux'\n[trials.a]", r"metric: .*'aux'"),
    "no parallelism": ("num_parallel = 0\n[trials.a]", r"num_parallel: .*greater than or equal to 1"),
    "a seed twice": ("seeds = [1, 1]\n[trials.a]", r"seeds holds a number twice"),
    "unknown reference": ("[trials.ab]", r"reference: there is no trial 'a'; trials: ab|did you mean 'ab'"),
    "unknown lender": ("[trials.a]\n[trials.b]\nmodel_of = 'c'", r"(?s)model_of: there is no trial 'c'.*trials\.b"),
    "a lender that borrows": (
        "[trials.a]\n[trials.b]\nmodel_of = 'a'\n[trials.c]\nmodel_of = 'b'",
        r"(?s)'b', which takes its own model from 'a'.*trials\.c",
    ),
    "a lender of another shape": ("[trials.a]\n[trials.b]\nmodel_of = 'a'\nset.adapter.rank = 2", r"(?s)\[adapter\] differs.*trials\.b"),
    "the run folder": ("[trials.a]\nset.run.dir = 'x'", r"(?s)run\.dir cannot be set here.*trials\.a"),
    "the run folder of all": ("set.run.dir = 'x'\n[trials.a]", r"run\.dir cannot be set here"),
    "a cluster of its own": ("[trials.a]\nset.ray.address = 'auto'", r"(?s)ray\.address cannot be set here.*trials\.a"),
    "GPUs of its own": ("[trials.a]\nset.train.use_gpu = true", r"train\.use_gpu cannot be set here"),
    "a seed beside seeds": ("seeds = [1, 2]\n[trials.a]\nset.run.seed = 3", r"run\.seed cannot be set here"),
    "a grid of no list": ("[trials.a]\ngrid.run.seed = 3", r"(?s)grid\.run\.seed is 3, not a list.*trials\.a"),
    "an empty grid": ("[trials.a]\ngrid.run.seed = []", r"grid\.run\.seed is \[\], not a list"),
    "a name that is no folder": ("[trials.a]\n[trials.'../b']", r"'\.\./b' cannot name a file"),
    "a grid value that is no folder": ("[trials.a]\ngrid.data.path = ['x/y']", r"'a_x/y' cannot name a file"),
    "one name twice": ("[trials.a]\n[trials.b]\ngrid.run.seed = [1]\n[trials.b_1]", r"two trials are called 'b_1'"),
    "experts of one cluster": (
        "[trials.a]\n[trials.b]\nvariant = 'experts'\nset.cluster.num_clusters = 1",
        r"(?s)variant 'experts' needs experts.*trials\.b",
    ),
    "a direct answer of a model that never thinks": ("[trials.a]\nvariant = 'direct'", r"(?s)thinks first.*trials\.a.*prompt\.answer"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_sweep_file_is_refused_by_trial_and_key(load, case):
    text, message = WRONG[case]
    with pytest.raises(ConfigError, match=message) as caught:
        load(text)
    assert "sweep.toml" in str(caught.value) or "cannot name" in str(caught.value)
    assert caught.value.fix


def test_files_that_are_not_there_are_named(load, tmp_path):
    with pytest.raises(MissingFileError, match="sweep file is not there") as caught:
        trials.load(tmp_path / "none.toml")
    assert "ray_jobs/sweeps" in caught.value.fix
    (tmp_path / "alone.toml").write_text('title = "T"\nrecipe = "gone.toml"\ndir = "d"\nreference = "a"\n[trials.a]\n')
    with pytest.raises(MissingFileError, match=r"gone\.toml"):
        trials.load(tmp_path / "alone.toml")


@pytest.mark.parametrize("file", SWEEPS, ids=lambda path: path.stem)
def test_every_shipped_sweep_loads_and_shares_stages(file):
    sweep = trials.load(file)
    assert sweep.settings.dir == f"runs/{file.stem}"
    assert len(graph(sweep.trials, places(sweep.trials))) < sum(len(select_stages(trial.config)) for trial in sweep.trials)


def test_the_papers_experiments_are_there():
    found = {path.stem: trials.load(path) for path in SWEEPS}
    assert set(found) == {"ablations", "cross_dataset", "encoder", "methods", "num_experts", "reasoning_share", "think"}
    assert [trial.config.train.trace_share for trial in found["reasoning_share"].trials] == [0.0, 0.1, 0.2, 0.5]
    assert [trial.config.cluster.num_clusters for trial in found["num_experts"].trials] == [1, 2, 3, 4, 5]
    assert [trial.config.encoder.source for trial in found["encoder"].trials] == ["mf", "lightgcn", "sasrec"]
    assert {"full", "no_keywords", "no_traces", "no_experts", "hard_routing", "likes_alone"} <= set(names(found["ablations"]))


def test_a_sweep_file_is_read_without_engines():
    code = (
        "import sys; from thinkrec.sweep.trials import load; from thinkrec.sweep.graph import plan_text; "
        f"print(plan_text(load({str(SWEEPS[0])!r}))); "
        f"assert not {{'torch', 'ray', 'faiss', 'transformers', 'polars'}} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert run_file.load(ROOT / "ray_jobs/recipes/world_nano.toml")
