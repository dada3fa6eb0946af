"""A finished run, opened in Python: its scores are those of its files, and it says what it cannot open."""

from __future__ import annotations

import json
import shutil

import numpy as np
import polars as pl
import pytest

import thinkrec
from thinkrec.errors import ArtefactError, ConfigError, DataError, MissingFileError
from thinkrec.routing.gate_table import VARIANTS


@pytest.fixture(scope="module")
def run(finished) -> thinkrec.Run:
    return thinkrec.open_run(finished)


def scores(run: thinkrec.Run, variant: str) -> pl.DataFrame:
    return pl.read_parquet(run.artefacts["score"].path(f"scores/{variant}.parquet"))


@pytest.mark.parametrize("variant", VARIANTS)
def test_scores_are_those_of_the_file(run, variant):
    rows = scores(run, variant)
    found = run.score(rows["user_id"], rows["item_id"], variant)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, rows["score"], atol=1e-5)
    assert np.abs(found - scores(run, "experts" if variant != "experts" else "global")["score"].to_numpy()).max() > 1e-3
