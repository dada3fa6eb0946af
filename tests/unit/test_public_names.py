"""What `import thinkrec` offers: these names, by which others build on it. Whoever changes this test breaks somebody's notebook."""

from __future__ import annotations

import importlib
import inspect
import tomllib
from pathlib import Path

import pytest

import thinkrec

NAMES = {
    "thinkrec": ["Router", "RouterSettings", "Run", "adapters", "errors", "fit_router", "fleet", "metrics", "open_run"],
    "thinkrec.adapters": ["AdapterBank", "AdapterSection", "install", "peft_tensors", "read_adapter", "write_adapter"],
    "thinkrec.fleet": ["Pack", "Schedule", "lower_bound", "packs", "simulate"],
    "thinkrec.metrics": ["Difference", "Estimate", "Evaluation", "evaluate"],
}
RUN = ["adapters", "artefacts", "dir", "explain", "prompts", "report", "router", "score", "settings"]


@pytest.mark.parametrize("module", NAMES)
def test_the_names_are_pinned_there_and_described(module):
    found = importlib.import_module(module)
    assert found.__all__ == NAMES[module]
    assert all(inspect.getdoc(getattr(found, name)) for name in found.__all__)


def test_a_run_has_these_members():
    assert sorted(name for name in [*dir(thinkrec.Run), *thinkrec.Run.__dataclass_fields__] if not name.startswith("_")) == sorted(set(RUN))


def test_the_first_page_names_them_all():
    assert all(name in (thinkrec.__doc__ or "") for name in NAMES["thinkrec"])
    assert set(NAMES["thinkrec"]) < set(dir(thinkrec))


def test_another_name_is_refused_with_those_there_are():
    with pytest.raises(AttributeError, match="thinkrec has no 'router'; it offers Router, "):
        thinkrec.router  # noqa: B018


def test_version_and_type_marker():
    project = tomllib.loads((Path(thinkrec.__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert thinkrec.__version__ == project["version"]
    assert (Path(thinkrec.__file__).parent / "py.typed").is_file()
    module, _, name = project["scripts"]["thinkrec"].partition(":")
    assert callable(getattr(importlib.import_module(module), name))
