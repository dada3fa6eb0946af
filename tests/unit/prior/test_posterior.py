"""The batched posterior against a model written down row by row, and its likelihood against SciPy's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from thinkrec.prior.features import CONTRASTS, LEVELS, NAMES, describe
from thinkrec.prior.posterior import Variances, collect, user_states
from thinkrec.prior.variances import fit_variances, from_logs, negative_log_likelihood, to_logs
from thinkrec.prior.windows import Queries, Windows

VARIANCES = Variances(0.02, 0.01, 0.03, 0.01, 0.2, 6.0, 0.5, (0.05, 0.02, 0.03, 0.3, 0.02, 0.01))


def parts_between(items, fold, rows, others, places, other_places, days, other_days, v):
    """{part: (n, m)} covariances of every part of the model, as the docstring of posterior.py has it."""
    traits, other = items.traits(np.full(len(rows), fold), rows), items.traits(np.full(len(others), fold), others)
    fast = np.exp(-np.abs(np.subtract.outer(places, other_places)) / v.rows)
    slow = np.exp(-np.abs(np.subtract.outer(days, other_days)) / v.days)
    edges = np.cumsum((0, *items.widths))
    found = {"constant": np.full(fast.shape, v.constant), "fast": v.fast * fast, "slow": v.slow * slow}
    for name, variance, begin, end in zip(CONTRASTS, v.tastes, edges, edges[1:], strict=False):
        found[name] = variance * traits[:, begin:end] @ other[:, begin:end].T
    found["mood"] = v.mood * (traits[:, : edges[1]] @ other[:, : edges[1]].T) * fast
    return found


def reference(items, histories, queries, v, first):
    """Each query's LEVELS and CONTRASTS by one dense solve a query; the history is read from row `first` of it."""
    found = []
    for history, seen, item, seconds in zip(queries.history, queries.seen, queries.item, queries.seconds, strict=True):
        rows = histories.offsets[history] + np.arange(first(seen), seen)
        if not len(rows):
            found.append(np.zeros(len(LEVELS) + len(CONTRASTS)))
            continue
        fold, days = histories.fold[history], histories.seconds[rows] / 86400
        known = histories.item[rows]
        places = np.arange(first(seen), seen)
        within = parts_between(items, fold, known, known, places, places, days, days, v)
        weights = np.linalg.solve(
            sum(within.values()) + v.noise * np.eye(len(rows)), histories.label[rows] - items.rate[fold, known].astype(float)
        )
        at = parts_between(items, fold, np.array([item]), known, [seen], places, [seconds / 86400], days, v)
        found.append([float((at[name] @ weights)[0]) for name in (*LEVELS, *CONTRASTS)])
    return np.array(found)


def columns(features):
    places = [NAMES.index(name) for name in (*LEVELS, *(f"contrast_{name}" for name in CONTRASTS))]
    return features.columns[:, places]


@pytest.fixture(scope="module")
def items(prior):
    return prior.items


@pytest.mark.parametrize("same_second", ["seen", "hidden"])
def test_every_part_equals_a_dense_solve(planted, items, same_second):
    histories, queries = planted.rows.histories(), planted.rows.queries(same_second).take(np.arange(0, 3000, 7))
    found = columns(describe(histories, queries, items, VARIANCES, 256))
    np.testing.assert_allclose(found, reference(items, histories, queries, VARIANCES, lambda seen: 0), atol=1e-6)
    assert np.abs(found).min(axis=0).max() < 1e-6 < np.abs(found).max(axis=0).min()  # every part is there


def test_a_long_history_forgets_its_oldest_half_window(planted, items):
    histories, queries = planted.rows.histories(), planted.rows.queries("seen").take(np.arange(40))

    def first(seen):
        return max(0, -(-(seen - 8) // 4)) * 4

    found = columns(describe(histories, queries, items, VARIANCES, 8))
    np.testing.assert_allclose(found, reference(items, histories, queries, VARIANCES, first), atol=1e-6)
    assert max(seen - first(seen) for seen in range(20)) == 8
    assert min(seen - first(seen) for seen in range(8, 20)) == 5
    assert not np.allclose(found, columns(describe(histories, queries, items, VARIANCES, 256)))


def test_a_session_level_is_the_level_at_its_beginning(planted, items):
    histories, queries = planted.rows.histories(), planted.rows.queries("seen")
    features = describe(histories, queries, items, VARIANCES, 256)
    begin = queries.seen - np.rint(np.expm1(features.columns[:, NAMES.index("session")])).astype(int)
    at_begin = Queries(queries.history, begin, queries.item, queries.seconds)
    levels = describe(histories, at_begin, items, VARIANCES, 256)
    expected = levels.columns[:, NAMES.index("constant")]
    np.testing.assert_allclose(features.columns[:, NAMES.index("session_constant")], expected, atol=1e-12)
    assert (begin < queries.seen).any()
    assert begin.any()


def test_states_do_not_depend_on_what_is_solved_together(planted, items):
    histories, queries = planted.rows.histories(), planted.rows.queries("seen")
    together = user_states(histories, queries.history, queries.seen, items, VARIANCES, 256)
    alone = user_states(histories.between(7, 8), np.array([0]), np.array([11]), items, VARIANCES, 256)
    row = np.flatnonzero((queries.history == 7) & (queries.seen == 11))
    np.testing.assert_allclose(alone.tastes, together.tastes[row], atol=1e-12)
    np.testing.assert_allclose(alone.fast, together.fast[row], atol=1e-12)


def batch_of(planted, items, lengths):
    histories = planted.rows.histories()
    windows = Windows(histories.offsets[: len(lengths)], np.array(lengths), histories.fold[: len(lengths)])
    return histories, windows, collect(histories, windows, items)


def test_the_likelihood_is_that_of_a_normal(planted, items):
    histories, windows, batch = batch_of(planted, items, [4, 9, 20])
    value, _ = negative_log_likelihood(batch, items, VARIANCES)
    expected = 0.0
    for first, length, fold in zip(windows.first, windows.length, windows.fold, strict=True):
        rows = first + np.arange(length)
        days, known, places = histories.seconds[rows] / 86400, histories.item[rows], np.arange(length)
        within = sum(parts_between(items, fold, known, known, places, places, days, days, VARIANCES).values())
        residual = histories.label[rows] - items.rate[fold, known].astype(float)
        normal = multivariate_normal(np.zeros(length), within + VARIANCES.noise * np.eye(length))
        expected -= normal.logpdf(residual) + length / 2 * np.log(2 * np.pi)
    assert value == pytest.approx(expected, abs=1e-8)


def test_its_derivatives_are_those_of_differences(planted, items):
    _, _, batch = batch_of(planted, items, [4, 9, 20])
    logs = to_logs(VARIANCES)
    assert from_logs(logs) == replace(VARIANCES, **{name: pytest.approx(getattr(VARIANCES, name)) for name in vars(VARIANCES)})
    _, slopes = negative_log_likelihood(batch, items, VARIANCES)
    for place, slope in enumerate(slopes):
        step = np.eye(len(logs))[place] * 1e-5
        up, down = (negative_log_likelihood(batch, items, from_logs(logs + sign * step))[0] for sign in (1, -1))
        assert slope == pytest.approx((up - down) / 2e-5, abs=1e-5)


def test_fitting_makes_the_sample_likelier(planted, items):
    histories = planted.rows.train_histories()
    fitted = fit_variances(histories, items, VARIANCES, 0)
    _, _, batch = batch_of(planted, items, [20] * 100)
    assert negative_log_likelihood(batch, items, fitted)[0] < negative_log_likelihood(batch, items, VARIANCES)[0] - 1


def test_without_a_history_nothing_is_fitted(planted, items):
    empty = planted.rows.histories().between(0, 0)
    assert fit_variances(empty, items, VARIANCES, 0) is VARIANCES
