"""Whoever writes a file owns its name: no other module spells it."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path

import pytest

import thinkrec

ROOT = Path(thinkrec.__file__).parent
OWNERS = ("ingest", "vectors", "clusters", "keywords", "models", "traces", "adapters", "scores", "prior")
OTHERS = {
    "data/readers/canonical.py",
    "data/readers/prepared.py",
    "data/inspect/recognise.py",
    "cli/evaluate.py",
}  # files that the user brings or asks for


def owned_names() -> set[str]:
    """Every file name that an owner declares."""
    modules = [import_module(f"thinkrec.artefacts.{owner}") for owner in OWNERS]
    return {value for module in modules for name, value in vars(module).items() if name.endswith("_FILE")}


def spelled(source: str) -> set[str]:
    """The owned names that a module holds as text of its own, docstrings left out."""
    tree = ast.parse(source)
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in docs]
    return {name for name in owned_names() for text in texts if isinstance(text, str) and text.rpartition("/")[2] == name}


def test_owners_declare_names():
    assert {"items.parquet", "encoder.json", "traces.parquet", "base.json", "log.jsonl", "timeline.json"} <= owned_names()


@pytest.mark.parametrize(("source", "found"), [('read("items.parquet")', {"items.parquet"}), ('"""About items.parquet."""', set())])
def test_the_search_finds_a_name_in_code_alone(source, found):
    assert spelled(source) == found


def test_no_module_spells_the_name_of_a_file_it_does_not_own():
    sources = {
        str(file.relative_to(ROOT)): file.read_text(encoding="utf-8") for file in ROOT.rglob("*.py") if file.parent.name != "artefacts"
    }
    found = {name: texts for name, source in sources.items() if name not in OTHERS and (texts := spelled(source))}
    assert not found
