"""What the language model weighs beside the prior: nothing where it knows nothing, and never so much that the sum is worse on valid."""

from __future__ import annotations

import numpy as np
import pytest

from thinkrec.score.total import fit_model_weight, score_columns, total_score

NUM_ROWS = 20_000
WORLD = np.random.default_rng(5)
COUNTED, MISSED, NOISE = WORLD.normal(size=(3, NUM_ROWS)).astype(np.float32)
LABEL = (WORLD.random(NUM_ROWS) < 1 / (1 + np.exp(-COUNTED - 0.8 * MISSED))).astype(np.int8)


def log_loss(score):
    return np.logaddexp(0, (1 - 2 * LABEL) * score).mean()


def test_what_counting_misses_gets_the_weight_it_has_in_the_world():
    weight = fit_model_weight(COUNTED, MISSED, LABEL)
    assert weight == pytest.approx(0.8, abs=0.05)
    assert log_loss(total_score(COUNTED, MISSED, weight)) < log_loss(COUNTED) - 0.03


def test_a_model_of_noise_weighs_next_to_nothing():
    assert fit_model_weight(COUNTED, NOISE, LABEL) < 0.05


@pytest.mark.parametrize("model", [NOISE, MISSED, -MISSED, 1e3 * NOISE, COUNTED, np.ones_like(COUNTED)])
def test_the_sum_is_never_behind_the_prior_where_it_was_fitted(model):
    weight = fit_model_weight(COUNTED, model, LABEL)
    assert weight >= 0
    assert log_loss(total_score(COUNTED, model, weight)) <= log_loss(COUNTED) + 1e-7


def test_a_model_that_is_wrong_about_everything_is_left_out():
    assert fit_model_weight(COUNTED, -MISSED, LABEL) == 0.0


def test_without_valid_rows_the_sum_is_the_one_that_was_trained_and_without_a_prior_the_model_alone():
    nothing = np.empty(0, np.float32)
    assert fit_model_weight(nothing, nothing, np.empty(0, np.int8)) == 1.0
    found = score_columns(np.zeros(NUM_ROWS, np.float32), NOISE, 1.0)
    assert found["score"].dtype == np.float32
    assert found["score"].tobytes() == NOISE.tobytes()
    np.testing.assert_allclose(found["p_like"], 1 / (1 + np.exp(-NOISE)), rtol=1e-6)
