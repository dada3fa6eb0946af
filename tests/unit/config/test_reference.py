"""Settings explain themselves: every key and table has a description, run files are written with them, and the page is up to date."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from thinkrec.config import reference
from thinkrec.config import run as run_file
from thinkrec.config.reference import Table, explain, page, run_toml, tables
from thinkrec.config.toml import flat
from thinkrec.errors import ConfigError

ROOT = Path(__file__).parents[3]
RECIPES = sorted((ROOT / "ray_jobs/recipes").glob("*.toml"))
TABLES = {table.header: table for table in tables()}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_a_table_and_each_of_its_keys_say_what_they_are_for(table: Table):
    assert len(table.description) > 20
    for key in table.keys:
        assert len(key.description) > 10, key.name
        assert key.description.endswith((".", "?")), key.name
        assert key.allowed, key.name


def test_no_key_is_left_out():
    shown = {key.name for table in TABLES.values() if not table.is_list for key in table.keys}
    keys = flat(run_file.parse({}).model_dump())
    words = {key for key in keys if key.startswith("keywords.domain_stop_words.")}  # a value that is a table itself
    assert shown - {"keywords.domain_stop_words"} == set(keys) - words


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_commented_run_file_loads_to_the_same_run(recipe):
    config = run_file.load(recipe)
    text = run_toml(config)
    assert run_file.parse(tomllib.loads(text)) == config
    assert f'dir = "runs/{recipe.stem}"  # default: "runs/default"' in text


@pytest.mark.parametrize(
    "tree",
    [
        {"data": {"source": "canonical", "path": 'a "b" \\ \n # ü 😀 \x7f'}},
        {"keywords": {"domain_stop_words": {"board game": ["x", 'y"'], "ü": []}}},
        {"traces": {"teachers": [{"name": "a/b", "weight": 0.5}, {"name": "nano", "path": "nano"}]}},
        {"train": {"experts": {"lr": 1e-7, "num_epochs": 3}}, "adapter": {"target_modules": ["q_proj"]}},
        {"data": {"source": "recbole", "path": "x"}, "encoder": {"source": "sasrec"}},
    ],
    ids=["text", "tables", "lists of tables", "numbers", "defaults of a source"],
)
def test_every_kind_of_value_is_written_as_toml(tree):
    config = run_file.parse(tree)
    assert run_file.parse(tomllib.loads(run_toml(config))) == config


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("train.experts.lr", ["values:  number, above 0", "default: 0.0005"]),
        ("data.source", ['"world", "movielens1m", "movielens10m"', 'default: "world"']),
        ("base.nano.hidden_size", ["whole number, from 32, a multiple of 32"]),
        ("engine.vllm.gpu_memory_utilization", ["number, above 0, to 1"]),
        ("engine.http.key_variable", ["text, like `^[A-Z_]", "or empty"]),
        ("traces.teachers", ["list of tables, at least one", "[[traces.teachers]]", "traces.teachers.weight"]),
        ("traces.teachers.name", ["must be given"]),
        ("train", ["[train]", "train.micro_batch_tokens", "tables in it: [train.loss], [train.global_adapter]"]),
    ],
)
def test_a_key_or_a_table_is_explained(name, said):
    text = explain(name)
    assert [part for part in said if part not in text] == []


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("train.num_group", "did you mean train.num_groups"),
        ("lr", "train.experts.lr"),
        ("tranin", "did you mean train"),
        ("nothing.like.it", "there is no key"),
        ("", "there is no key ''"),
    ],
)
def test_a_wrong_name_is_answered_with_near_ones(name, near):
    with pytest.raises(ConfigError) as caught:
        explain(name)
    assert near in str(caught.value)
    assert "tables: run, data" in caught.value.fix


def test_the_page_is_up_to_date():
    written = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
    assert written == page(), "thinkrec config reference > docs/settings.md"


def test_a_table_of_the_page_has_as_many_cells_as_its_head():
    rows = [line for line in page().splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in rows} == {5}
    assert len(rows) > 246


def test_a_key_without_a_description_would_be_found():
    class Bare(run_file.RunSection):
        new: int = 3

    found = next(reference._tables(Bare(), "bare"))
    assert [key.name for key in found.keys if not key.description] == ["bare.new"]
