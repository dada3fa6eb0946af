"""Calibration against scikit-learn, and ties that must not make an error of their own."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from thinkrec.evaluate.metrics.calibration import NUM_BINS, calibration


def drawn(decimals: int) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    p = rng.beta(2, 5, 2000).round(decimals)
    return pl.DataFrame({"p_like": p, "label": (rng.random(2000) < p**2).astype(np.int8)})


@pytest.mark.parametrize("decimals", [3, 15])
def test_errors_equal_scikit_learns_curves(decimals):
    frame = drawn(decimals).filter(pl.col("p_like") * NUM_BINS % 1 != 0)  # edges: its bins are a rounding error apart from ours
    found, (p, label) = calibration(frame), (frame[name].to_numpy() for name in ("p_like", "label"))
    observed, predicted = calibration_curve(label, p, n_bins=NUM_BINS, strategy="uniform")
    rows = np.bincount(np.ceil(p * NUM_BINS).astype(int))[1 : len(observed) + 1]
    assert found["expected_error_width"] == pytest.approx(np.abs(observed - predicted) @ rows / len(p), abs=1e-12)
    assert found["brier"] == pytest.approx(brier_score_loss(label, p), abs=1e-12)
    observed, predicted = calibration_curve(label, p, n_bins=NUM_BINS, strategy="quantile")
    if decimals == 15:  # no ties: bins of equal count are the same bins
        assert [row["observed"] for row in found["bins"]] == pytest.approx(observed.tolist(), abs=1e-12)
        assert [row["predicted"] for row in found["bins"]] == pytest.approx(predicted.tolist(), abs=1e-12)


def test_equal_predictions_stay_in_one_bin():
    """Parting them by label would make an error of .5 out of a perfect forecast."""
    found = calibration(pl.DataFrame({"p_like": [0.5] * 100, "label": [0, 1] * 50}))
    assert found["bins"] == [{"predicted": 0.5, "observed": 0.5, "num_rows": 100}]
    assert found["expected_error"] == found["expected_error_width"] == 0


def test_the_ends_of_the_scale_have_bins():
    found = calibration(pl.DataFrame({"p_like": [0.0, 1.0, 1.0, 0.0], "label": [0, 1, 0, 1]}))
    assert found["expected_error_width"] == 0.5
