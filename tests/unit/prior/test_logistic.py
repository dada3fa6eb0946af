"""The regression against scikit-learn's, and the pairs it is taught."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from thinkrec.prior.logistic import PAIRS_PER_ROW, PENALTY, draw_pairs, fit_logistic


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    user, columns = np.sort(rng.integers(0, 20, 400)), rng.normal(size=(400, 3))
    label = (rng.random(400) < 1 / (1 + np.exp(-columns[:, 0] - 0.1 * (user - 10)))).astype(int)
    return columns, label, user


def test_without_pairs_it_is_a_plain_logistic_regression(rows):
    columns, label, user = rows
    found = fit_logistic(columns, label, user, 0.0, 0)
    inputs = (columns - columns.mean(0)) / columns.std(0)
    plain = LogisticRegression(C=1 / PENALTY, max_iter=1000, tol=1e-8).fit(inputs, label)
    np.testing.assert_allclose(found.score(columns), plain.decision_function(inputs), atol=5e-3)


def test_pairs_are_of_one_user_and_both_labels_and_users_count_alike(rows):
    _, label, user = rows
    label = np.where(user == 3, 1, label)
    pairs = draw_pairs(user, label, 0)
    np.testing.assert_array_equal(user[pairs.liked], user[pairs.disliked])
    assert label[pairs.liked].all()
    assert not label[pairs.disliked].any()
    shares = np.bincount(user[pairs.liked], pairs.weight)
    assert shares[3] == 0
    np.testing.assert_allclose(shares[shares > 0], shares[0])
    assert len(pairs.liked) == PAIRS_PER_ROW * (user != 3).sum()


def test_within_user_moves_weight_from_what_tells_users_apart(rows):
    columns, label, user = rows
    columns = np.column_stack([columns[:, 0], user])
    plain, paired = (fit_logistic(columns, label, user, strength, 0).weights for strength in (0.0, 3.0))
    assert abs(paired[1] / paired[0]) < 0.9 * abs(plain[1] / plain[0])


def test_a_column_that_never_changes_has_no_weight(rows):
    columns, label, user = rows
    found = fit_logistic(np.column_stack([columns, np.full(400, 7.0)]), label, user, 0.3, 0)
    assert found.weights[3] == 0
    assert np.isfinite(found.score(np.ones((1, 4)))).all()


def test_one_class_or_no_rows_is_no_error():
    for count in (0, 5):
        found = fit_logistic(np.zeros((count, 2)), np.ones(count, int), np.zeros(count, int), 0.3, 0)
        assert np.isfinite(found.score(np.zeros((1, 2)))).all()
