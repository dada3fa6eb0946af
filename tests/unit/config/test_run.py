"""The run file: closed to unknown keys, frozen, overridable from the command line, and cheap to read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from thinkrec.config import run as run_file
from thinkrec.config.run import Config
from thinkrec.errors import ConfigError, MissingFileError

RECIPES = sorted((Path(__file__).parents[3] / "ray_jobs/recipes").glob("*.toml"))
LIGHT = ["config", "errors", "events", "store", "job", "data", "plan", "evaluate", "metrics", "fleet", "routing"]  # packages whole
LIGHT += ["cli.main", "pipeline.execute", "model.base", "train.deepspeed.engine"]
HEAVY = ["torch", "ray", "faiss", "vllm", "transformers", "deepspeed"]


@pytest.fixture
def load(tmp_path):
    """load(text, overrides...) reads a run file with this text."""

    def write_and_load(text: str = "", *overrides: str) -> Config:
        (tmp_path / "run.toml").write_text(text, encoding="utf-8")
        return run_file.load(tmp_path / "run.toml", overrides)

    return write_and_load


@pytest.mark.parametrize(
    ("tree", "named"),
    [
        ({"trian": {}}, "trian: unknown key; did you mean 'train'"),
        ({"train": {"num_group": 2}}, "train.num_group: unknown key; did you mean 'train.num_groups'"),
        ({"train": {"experts": {"learning": 1}}}, "train.experts.learning: unknown key; known keys: num_epochs, batch_size"),
        ({"data": {"world": {"num_item": 3}}}, "data.world.num_item: unknown key; did you mean 'data.world.num_items'"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_name(tree, named):
    with pytest.raises(ConfigError) as caught:
        run_file.parse(tree)
    assert named in str(caught.value)


def test_every_wrong_key_is_named_at_once():
    with pytest.raises(ConfigError) as caught:
        run_file.parse({"run": {"sed": 1}, "cluster": {"temperature": -1}})
    assert "run.sed" in caught.value.what
    assert "cluster.temperature: Input should be greater than 0 (given: -1)" in caught.value.what


@pytest.mark.parametrize(
    ("override", "read", "value"),
    [
        ("train.experts.lr=1e-4", lambda c: c.train.experts.lr, 1e-4),
        ("prompt.priors=false", lambda c: c.prompt.priors, False),
        ("data.path=../a folder", lambda c: c.data.path, "../a folder"),
        ("data.path=s3://bucket/a=b", lambda c: c.data.path, "s3://bucket/a=b"),
        ("split.valid_from=2002-04-01", lambda c: c.split.valid_from, "2002-04-01"),
        ("split.test_from=2002-09-01T00:00:00Z", lambda c: c.split.test_from, "2002-09-01T00:00:00Z"),
        ('adapter.target_modules=["q_proj", "v_proj"]', lambda c: c.adapter.target_modules, ("q_proj", "v_proj")),
        ("data.world.num_items=77", lambda c: c.data.world.num_items, 77),
        (" run.seed =3", lambda c: c.run.seed, 3),
    ],
)
def test_an_override_takes_the_type_of_its_key(load, override, read, value):
    assert read(load("[train]\nnum_groups = 3\n", override)) == value
    assert load("[train]\nnum_groups = 3\n", override).train.num_groups == 3


def test_the_last_override_wins_over_the_file(load):
    assert load("[run]\nseed = 1", "run.seed=2", "run.seed=3").run.seed == 3


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("run.seed", "not of the form"),
        ("=3", "not of the form"),
        ("run.seed.deeper=1", "'seed' in 'run.seed.deeper' is a value"),
        ("run.sed=1", "did you mean 'run.seed'"),
        ("a..b=1", "unknown key"),
        ("run.seed=1.5", "valid integer"),
        ("train.experts.lr=nan", "finite"),
        ("train.experts.lr=inf", "finite"),
        ("data.like_threshold=nan", "finite"),
    ],
)
def test_a_bad_override_is_named(load, override, message):
    with pytest.raises(ConfigError) as caught:
        load("[run]\nseed = 1", override)
    assert message in str(caught.value)


def test_a_file_that_is_not_there_and_one_that_is_not_toml(load, tmp_path):
    with pytest.raises(MissingFileError, match="run file is not there"):
        run_file.load(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match=r"not TOML.*line 2"):
        load("[run]\nseed = = 1")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not TOML"):
        run_file.load(tmp_path / "bytes.toml")


def test_an_encoders_defaults_are_its_own_and_the_file_comes_before_them(load):
    mf, sasrec = load().encoder, load('[encoder]\nsource = "sasrec"\nlr = 0.5').encoder
    assert (mf.dim, sasrec.dim, sasrec.lr) == (16, 64, 0.5)
    assert load("", "encoder.source=lightgcn").encoder.dim == 64


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_loads_and_its_resolved_form_is_stable(recipe):
    config = run_file.load(recipe)
    text = run_file.dump(config)
    assert run_file.parse(json.loads(text)) == config
    assert run_file.dump(run_file.parse(json.loads(text))) == text
    assert config.run.dir == f"runs/{recipe.stem}"


def test_there_are_recipes():
    assert {"world_nano", "world_rules", "world_tallrec", "world_collm", "ml1m_nano", "ml1m_llama3_8b"} <= {path.stem for path in RECIPES}


def test_a_config_is_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        Config().run.seed = 7
    with pytest.raises(ValidationError, match="frozen"):
        Config().run = Config().run


@pytest.mark.parametrize("phase", ["global_adapter", "projector", "experts"])
def test_a_rate_that_would_rise_is_refused(phase):
    """The published floor of 8e-5 stands above the published 1e-5 of the experts (D14)."""
    with pytest.raises(ConfigError, match=rf"train\.{phase}: min_lr 8e-05 is above lr 1e-05"):
        run_file.parse({"train": {phase: {"lr": 1e-5, "min_lr": 8e-5}}})


def test_no_step_carries_an_expert_past_the_weights_it_is_held_at():
    tree = {"train": {"experts": {"lr": 1e-3}}}
    assert run_file.parse(tree | {"refresh": {"proximal": 1000.0}}).refresh.proximal == 1000.0
    with pytest.raises(ConfigError, match=r"refresh\.proximal 1001\.0 times train\.experts\.lr 0\.001 is 1\.001"):
        run_file.parse(tree | {"refresh": {"proximal": 1001.0}})


@pytest.mark.parametrize(
    ("train", "key"),
    [
        ({"num_workers": 3}, "train.global_adapter.batch_size 64"),
        ({"projector": {"batch_size": 63}}, "train.projector.batch_size 63"),
        ({"workers_per_group": 5}, "train.experts.batch_size 64"),
        ({"loss": {"rank": 0.5, "rows_per_user": 6}}, "train.global_adapter.batch_size 64"),
    ],
)
def test_a_batch_that_does_not_divide_is_refused_by_name(train, key):
    with pytest.raises(ConfigError) as caught:
        run_file.parse({"train": train})
    assert key in str(caught.value)


def test_rows_per_user_counts_only_with_the_rank_term():
    assert run_file.parse({"train": {"loss": {"rows_per_user": 6}}}).train.loss.rank == 0


@pytest.mark.parametrize(
    ("tree", "key"),
    [
        ({"data": {"source": "canonical"}}, "data.path is empty"),
        ({"base": {"source": "folder"}}, "base.path"),
        (
            {"prompt": {"targets_per_history": 3}, "train": {"loss": {"rank": 0.5, "rows_per_user": 4}}},
            "rows_per_user 4 is no multiple of prompt.targets_per_history 3",
        ),
        ({"encoder": {"source": "sasrec", "dim": 10, "sasrec": {"num_heads": 4}}}, "dim 10 does not divide by encoder.sasrec.num_heads 4"),
        ({"encoder": {"source": "sasrec", "sasrec": {"lenght": 4}}}, "did you mean 'encoder.sasrec.length'"),
        ({"encoder": {"source": ["mf"]}}, "encoder.source"),
        ({"encoder": {"source": "given", "users_path": "u.parquet"}}, "encoder.items_path"),
    ],
)
def test_a_source_without_what_it_needs_is_refused(tree, key):
    with pytest.raises(ConfigError, match=key):
        run_file.parse(tree)


def test_the_light_packages_import_no_engine():
    """Every module of them, and `thinkrec` itself nothing but the standard library."""
    code = f"""
import importlib, pkgutil, sys
import thinkrec
assert not {{"numpy", "pyarrow", "polars", "pydantic"}} & sys.modules.keys()
for name in {LIGHT!r}:
    package = importlib.import_module("thinkrec." + name)
    inside = pkgutil.walk_packages(getattr(package, "__path__", []), package.__name__ + ".")
    for module in [package.__name__, *(found.name for found in inside)]:
        importlib.import_module(module)
        heavy = [heavy for heavy in {HEAVY!r} if heavy in sys.modules]
        assert not heavy, (module, heavy)
assert {{"polars", "pyarrow"}} <= sys.modules.keys()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
