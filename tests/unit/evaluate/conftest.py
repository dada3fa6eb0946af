"""The planted artefacts of `planted.py`, made and judged once."""

from __future__ import annotations

import polars as pl
import pytest
from planted import artefacts, planted_world, run_stage

from thinkrec.store.artefacts import Artefact


@pytest.fixture(scope="session")
def world() -> pl.DataFrame:
    return planted_world()


@pytest.fixture(scope="session")
def inputs(world: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artefact]:
    return artefacts(world, tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="session")
def judged(inputs: dict[str, Artefact], tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    return run_stage(inputs, tmp_path_factory.mktemp("judged"))
