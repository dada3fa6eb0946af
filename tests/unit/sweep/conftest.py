"""A recipe and sweep files written beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from thinkrec.sweep import trials
from thinkrec.sweep.trials import Sweep

HEAD = 'title = "T"\nrecipe = "run.toml"\nreference = "{reference}"\n'


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Sweep]:
    """load(text, override..., reference="a") reads a sweep file of this text over an empty recipe, in a run folder of the test's own."""

    def write_and_load(text: str, *overrides: str, reference: str = "a") -> Sweep:
        (tmp_path / "run.toml").write_text("[train]\nnum_groups = 3\n")
        head = HEAD.format(reference=reference) + f'dir = "{tmp_path / "run"}"\n'
        (tmp_path / "sweep.toml").write_text(head + text, encoding="utf-8")
        return trials.load(tmp_path / "sweep.toml", overrides)

    return write_and_load
