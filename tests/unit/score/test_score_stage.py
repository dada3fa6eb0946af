"""What the stage makes of scored rows: valid rows say what the model weighs, test rows get the sum, and no valid row is in the files."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from thinkrec.score.stage import add_prior

NUM_ROWS = 4000


@pytest.fixture
def scored() -> pl.DataFrame:
    """Half of the rows are valid; in truth the model's score counts half as much as it says."""
    rng = np.random.default_rng(2)
    prior, model = rng.normal(size=(2, NUM_ROWS)).astype(np.float32)
    label = (rng.random(NUM_ROWS) < 1 / (1 + np.exp(-prior - 0.5 * model))).astype(np.int8)
    names = {"row": np.arange(NUM_ROWS), "variant": ["fusion"] * NUM_ROWS, "is_test": np.arange(NUM_ROWS) % 2 == 0}
    return pl.DataFrame(names | {"label": label, "prior": prior, "model": model})


def test_the_weight_comes_from_valid_rows_and_the_scores_are_of_test_rows(scored):
    rows, weight = add_prior(scored)
    assert weight == pytest.approx(0.5, abs=0.15)
    assert rows["row"].to_list() == list(range(0, NUM_ROWS, 2))
    np.testing.assert_allclose(rows["score"], rows["prior"] + weight * rows["model"], atol=1e-6)


def test_no_test_label_moves_the_weight(scored):
    flipped = scored.with_columns(label=pl.when("is_test").then(1 - pl.col("label")).otherwise("label"))
    assert add_prior(flipped)[1] == add_prior(scored)[1]
    assert add_prior(scored.with_columns(label=1 - pl.col("label")))[1] == 0.0  # the control: valid labels do
