"""Item numbers against plain loops, and exact leave-fold-out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from thinkrec.prior.item_factors import fit_item_factors
from thinkrec.prior.quality import LENIENCY_ROWS, NUM_ALTERNATIONS, NUM_FOLDS, QUALITY_ROWS, fit_quality, folds_of


def quality_of(rows, content):
    part = rows.ratings(60)
    return fit_quality(lambda: [part], content)


def test_quality_equals_a_loop_over_the_other_folds(planted):
    """Without content, whose regression is scikit-learn's."""
    rows = planted.rows
    found = quality_of(rows, np.zeros((60, 0)))
    for fold in (0, 3):
        mine = [n for n in np.flatnonzero(rows.is_train) if rows.fold[rows.user[n]] != fold]
        mean = np.mean([rows.label[n] for n in mine])
        rate = np.full(60, mean)
        for _ in range(NUM_ALTERNATIONS):
            likes, seen = np.zeros(60), np.zeros(60)
            for user in set(rows.user[mine]):
                his = [n for n in mine if rows.user[n] == user]
                lenient = sum(rows.label[n] - rate[rows.item[n]] for n in his) / (len(his) + LENIENCY_ROWS)
                for n in his:
                    likes[rows.item[n]] += rows.label[n] - lenient
                    seen[rows.item[n]] += 1
            rate = (likes + QUALITY_ROWS * mean) / (seen + QUALITY_ROWS)
        np.testing.assert_allclose(found.rate[:, fold], np.clip(rate, 0.03, 0.97), atol=1e-10)
        np.testing.assert_array_equal(found.num_rows[:, fold], seen)
        np.testing.assert_allclose(found.promised[:, fold], mean)


def test_parts_add_up(planted):
    rows, content = planted.rows, planted.content.matrix()
    whole, parts = quality_of(rows, content), []
    for users in (slice(0, 40), slice(40, 150)):
        inside = (rows.user >= users.start) & (rows.user < users.stop)
        columns = [column[inside] for column in (rows.item, rows.label, rows.milliseconds, rows.is_train, rows.is_visible)]
        parts.append(replace(rows, user=rows.user[inside] - users.start, fold=rows.fold[users]))
        parts[-1] = type(rows)(parts[-1].user, *columns, parts[-1].fold).ratings(60)
    np.testing.assert_allclose(fit_quality(lambda: parts, content).rate, whole.rate, atol=1e-10)


def test_a_folds_numbers_know_no_label_of_its_users(planted):
    """Every other fold's numbers move: the control."""
    rows, content = planted.rows, planted.content.matrix()
    flipped = replace(rows, label=np.where(rows.fold[rows.user] == 5, 1 - rows.label, rows.label))
    before, after = quality_of(rows, content), quality_of(flipped, content)
    factors = [fit_item_factors(part.ratings(60), quality.rate, content, 2, 0) for part, quality in ((rows, before), (flipped, after))]
    others = np.arange(NUM_FOLDS) != 5
    for name in ("rate", "promised", "num_rows"):
        np.testing.assert_array_equal(getattr(after, name)[:, 5], getattr(before, name)[:, 5])
    np.testing.assert_array_equal(factors[1][5], factors[0][5])
    assert (np.abs(after.rate - before.rate)[:, others].max(axis=0) > 1e-3).all()
    assert (np.abs(factors[1] - factors[0])[others].max(axis=(1, 2)) > 1e-3).all()


def test_factors_find_what_content_does_not_say():
    """Half of the users like even items, half odd ones."""
    rng = np.random.default_rng(0)
    user, item = np.divmod(rng.permutation(200 * 30), 30)
    order = np.lexsort((item, user))
    user, item = user[order], item[order]
    label = ((user % 2 == item % 2) ^ (rng.random(len(user)) < 0.1)).astype(int)
    from thinkrec.prior.quality import Ratings

    ratings = Ratings.of(user, item, label, folds_of(map(str, range(200))), 30)
    factors = fit_item_factors(ratings, np.full((30, NUM_FOLDS), 0.5), np.zeros((30, 0)), 1, 0)[0, :, 0]
    assert abs(np.corrcoef(factors, np.arange(30) % 2)[0, 1]) > 0.95


def test_an_item_that_nobody_met_has_what_its_content_promises(planted):
    rows, content = planted.rows, planted.content.matrix()
    without = replace(rows, is_train=rows.is_train & (rows.item != 9))
    quality = quality_of(without, content)
    assert not quality.num_rows[9].any()
    np.testing.assert_allclose(quality.rate[9], quality.promised[9])
    assert quality.promised.std(axis=0).min() > 0.01


def test_folds_are_many_and_of_like_size():
    sizes = np.bincount(folds_of(map(str, range(1600))), minlength=NUM_FOLDS)
    assert len(sizes) == NUM_FOLDS
    assert sizes.min() > 50


@pytest.mark.parametrize("num_users", [0, 1])
def test_few_users_are_no_error(planted, num_users):
    rows = planted.rows
    few = replace(rows, is_train=rows.is_train & (rows.user < num_users))
    assert np.isfinite(quality_of(few, planted.content.matrix()).rate).all()
