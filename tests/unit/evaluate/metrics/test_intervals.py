"""The bootstrap: seeded, paired, and as wide as theory says."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from thinkrec.evaluate.metrics.intervals import holm, resample
from thinkrec.evaluate.metrics.ranking import UserMean, statistics


def mean_of(values: np.ndarray) -> dict[str, UserMean]:
    return {"mean": UserMean(values, np.ones(len(values)))}


def test_interval_of_a_mean_has_the_width_of_its_standard_error():
    values = np.random.default_rng(0).normal(size=400)
    found = resample(mean_of(values), 400, 2000, seed=1).estimates()["mean"]
    half = 1.96 * values.std() / np.sqrt(400)
    assert found.value == pytest.approx(values.mean())
    assert found.high - found.value == pytest.approx(half, rel=0.1)
    assert found.value - found.low == pytest.approx(half, rel=0.1)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(3)
    found = [resample(mean_of(rng.normal(size=80)), 80, 100, seed=n).estimates()["mean"] for n in range(100)]
    covered = np.mean([estimate.low < 0 < estimate.high for estimate in found])
    assert 0.85 < covered < 0.99


def test_pairing_sees_a_difference_that_two_separate_intervals_do_not():
    rng = np.random.default_rng(4)
    users = rng.normal(size=200)
    better = resample(mean_of(users + 0.1 + 0.05 * rng.normal(size=200)), 200, 500, seed=7)
    worse = resample(mean_of(users), 200, 500, seed=7)
    difference = better.minus(worse)["mean"]
    assert difference.low > 0.08
    assert difference.p < 0.01
    assert better.estimates()["mean"].low < worse.estimates()["mean"].high  # side by side they overlap
    unpaired = better.minus(resample(mean_of(users), 200, 500, seed=8))["mean"]
    assert unpaired.low < 0  # the control: other users, no pairing


def test_a_scorer_does_not_differ_from_itself():
    same = resample(mean_of(np.arange(20.0)), 20, 100, seed=0)
    difference = same.minus(same)["mean"]
    assert (difference.value, difference.low, difference.high, difference.p) == (0, 0, 0, 1)


def test_p_is_even_where_nothing_is_planted():
    rng = np.random.default_rng(5)
    pairs = [(rng.normal(size=60), rng.normal(size=60)) for _ in range(60)]
    found = [resample(mean_of(a), 60, 100, n).minus(resample(mean_of(b), 60, 100, n))["mean"].p for n, (a, b) in enumerate(pairs)]
    assert 0.25 < np.mean(found) < 0.75
    assert np.mean(np.array(found) < 0.1) < 0.25


def test_same_seed_same_draws_whatever_the_order_of_rows():
    rng = np.random.default_rng(6)
    user, label = rng.integers(0, 30, 500).astype(str), rng.integers(0, 2, 500)
    frame = pl.DataFrame({"user_id": user, "score": rng.normal(size=500), "label": label})
    first = resample(statistics(frame), 30, 50, seed=2).estimates()
    second = resample(statistics(frame.sample(fraction=1, shuffle=True, seed=1)), 30, 50, seed=2).estimates()
    assert first["uauc"] == second["uauc"]
    assert first["auc"].low == pytest.approx(second["auc"].low, abs=1e-12)
    assert resample(statistics(frame), 30, 50, seed=3).estimates()["auc"].low != first["auc"].low


def test_too_few_users_get_no_interval():
    found = resample(mean_of(np.array([1.0, 2.0])), 2, 100, seed=0).estimates()["mean"]
    assert (found.value, found.low, found.high) == (1.5, None, None)


def test_an_undefined_metric_is_none():
    dropped = {"mean": UserMean(np.zeros(9), np.zeros(9))}
    found = resample(dropped, 9, 20, seed=0)
    assert found.estimates()["mean"].value is None
    assert found.minus(found)["mean"].p is None


def test_p_of_several_comparisons_is_corrected_step_by_step():
    """Holm's own rule: the smallest p times their number, the next times one less, never falling; what was not tested counts for none."""
    assert holm([0.04, None, 0.01, 0.03]) == pytest.approx([0.06, None, 0.03, 0.06])
    assert holm([0.02]) == [0.02]
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []
