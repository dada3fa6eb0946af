"""Copies of a package to spoil."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


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
