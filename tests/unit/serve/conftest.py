"""A package of the finished run, and copies of it to spoil."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import thinkrec
from thinkrec.serve.assemble import write_package


@pytest.fixture(scope="session")
def packaged(finished, tmp_path_factory) -> Path:
    """The folder of a package; tests only read it."""
    run = thinkrec.open_run(finished)
    folder = tmp_path_factory.mktemp("packaged") / "package"
    write_package(run.settings, run.artefacts, str(folder))
    return folder


@pytest.fixture
def spoilt(packaged, tmp_path) -> Callable[..., Path]:
    """spoilt(lambda tree: ...) is a copy of the package whose package.json went through the function."""

    def make(change: Callable[[dict], object] = lambda tree: None) -> Path:
        folder = tmp_path / "package"
        shutil.copytree(packaged, folder)
        tree = json.loads((folder / "package.json").read_text())
        change(tree)
        (folder / "package.json").write_text(json.dumps(tree))
        return folder

    return make
