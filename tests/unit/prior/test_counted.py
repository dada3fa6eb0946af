"""The prior as a whole: what it knows of a label, whom it serves, and what a stored one says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from planted_tastes import SETTINGS, make_planted
from sklearn.metrics import roc_auc_score

from thinkrec.prior.content import read_content
from thinkrec.prior.features import NAMES, describe
from thinkrec.prior.fit import fit_prior
from thinkrec.prior.items import Items
from thinkrec.prior.logistic import fit_logistic
from thinkrec.prior.stored import read_prior, write_prior
from thinkrec.prior.windows import Histories, Queries


def fit(rows, content):
    part = rows.ratings(60)
    return fit_prior(lambda: [part], rows, content, SETTINGS, 0)


def asked(prior, rows, same_second="seen"):
    return prior.offsets(rows.histories(), rows.queries(same_second)).offset


def test_it_is_ahead_of_the_items_rate_on_rows_it_was_not_fitted_on(planted, prior):
    rows, later = planted.rows, ~planted.rows.is_train
    offset = asked(prior, rows)
    rate = prior.items.rate[rows.fold[rows.user], rows.item]
    assert roc_auc_score(rows.label[later], offset[later]) > roc_auc_score(rows.label[later], rate[later]) + 0.05


def test_train_rows_are_judged_no_better_than_those_of_users_who_were_left_out(planted, prior):
    """Folds of users left out of everything, one at a time. The control: with nobody left out, train rows are judged better."""
    rows, train = planted.rows, planted.rows.is_train
    fold = rows.fold[rows.user]
    judged = train & (fold < 2)
    out_of_fold = np.zeros(len(rows.user))
    for left in range(2):
        without = fit(replace(rows, is_train=train & (fold != left)), planted.content)
        out_of_fold[fold == left] = asked(without, rows)[fold == left]

    def auc(offset):
        return roc_auc_score(rows.label[judged], offset[judged])

    assert auc(asked(prior, rows)) < auc(out_of_fold) + 0.005
    assert auc(asked(all_in(rows, planted.content), rows)) > auc(out_of_fold) + 0.005


def test_a_label_moves_nothing_at_its_row_or_before(planted, prior):
    """Fitted anew with one train label flipped, weights kept. The control: the same user's later rows move."""
    rows = planted.rows
    for row in (25, 1000):
        flipped = replace(rows, label=np.where(np.arange(len(rows.label)) == row, 1 - rows.label, rows.label))
        again = replace(fit(flipped, planted.content), variances=prior.variances, logistic=prior.logistic)
        before, after = asked(prior, rows), asked(again, flipped)
        his = np.flatnonzero(rows.user == rows.user[row])
        np.testing.assert_array_equal(after[his[his <= row]], before[his[his <= row]])
        assert (after[his[his > row]] != before[his[his > row]]).all()


def all_in(rows, content):
    """Numbers that leave nobody out: every fold's are those of a fold without users."""
    nobody = replace(rows, fold=np.where(rows.fold == 15, 14, rows.fold))
    whole = fit(nobody, content)
    items = whole.items
    last = {name: np.repeat(getattr(items, name)[15:], 16, axis=0) for name in ("counted", "rate", "promised", "num_rows")}
    return replace(whole, items=replace(items, **last))


def test_labels_that_nothing_explains_are_not_known():
    """Coins: an AUC above .5 on train rows is a leak. The control: with nobody left out, item counts, factors and weights have one."""
    rows, content = make_planted().rows, make_planted().content
    coins = replace(rows, label=np.random.default_rng(1).integers(0, 2, len(rows.label)))
    train = rows.is_train

    def aucs(prior, is_crossed):
        features = describe(coins.histories(), coins.queries("seen"), prior.items, prior.variances, 256)
        factors = features.columns[:, NAMES.index("contrast_factors")]
        whole = fit_logistic(features.columns[train], coins.label[train], coins.user[train], 0.3, 0)
        offset = asked(prior, coins) if is_crossed else whole.score(features.columns)
        return np.array([roc_auc_score(coins.label[train], score[train]) for score in (features.quality, factors, offset)])

    apart = fit(coins, content)
    assert (aucs(apart, True) < 0.53).all()
    assert aucs(apart, False)[2] > 0.53
    assert (aucs(all_in(coins, content), True)[:2] > 0.53).all()


def test_a_stored_prior_says_the_same(planted, prior, tmp_path):
    write_prior(tmp_path, prior)
    again = read_prior(tmp_path)
    np.testing.assert_array_equal(asked(again, planted.rows), asked(prior, planted.rows))
    assert (again.variances, again.items.widths) == (prior.variances, prior.items.widths)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["items.safetensors", "prior.json"]


def test_one_user_alone_is_judged_as_among_all(planted, prior):
    """What serving does: one history, many items, now; the user may be new."""
    rows = planted.rows
    histories, queries = rows.histories(), rows.queries("seen")
    last = np.flatnonzero(queries.history == 9)[-1]
    alone = Queries(np.zeros(60, int), np.full(60, queries.seen[last]), np.arange(60), np.full(60, queries.seconds[last]))
    found = prior.offsets(histories.between(9, 10), alone)
    assert found.offset[rows.item[last]] == pytest.approx(asked(prior, rows)[last], abs=1e-6)
    assert len(set(found.offset)) == 60


def test_who_was_never_seen_has_an_offset(prior):
    nobody = Histories(*(np.zeros(0, int) for _ in range(2)), np.zeros(0), np.zeros(2, int), np.array([3]))
    found = prior.offsets(nobody, Queries(np.zeros(60, int), np.zeros(60, int), np.arange(60), np.zeros(60)))
    assert np.isfinite(found.offset).all()
    assert not found.level.any()
    assert np.corrcoef(found.offset, prior.items.rate[3])[0, 1] > 0.9


def test_queries_in_any_order_and_none_at_all(planted, prior):
    histories, queries = planted.rows.histories(), planted.rows.queries("seen")
    order = np.random.default_rng(0).permutation(len(queries))
    found = prior.offsets(histories, queries.take(order)).offset
    np.testing.assert_allclose(found, asked(prior, planted.rows)[order], atol=1e-6)
    assert len(prior.offsets(histories, queries.take(order[:0])).offset) == 0


def test_rows_of_one_second_are_hidden_from_each_other_by_setting(planted, prior):
    """Flip a label that shares its second with the next row."""
    rows = planted.rows
    same = np.flatnonzero((np.diff(rows.milliseconds) == 0) & (np.diff(rows.user) == 0))
    flipped = replace(rows, label=np.where(np.arange(len(rows.label)) == same[0], 1 - rows.label, rows.label))
    moves = {rule: asked(prior, flipped, rule)[same[0] + 1] - asked(prior, rows, rule)[same[0] + 1] for rule in ("seen", "hidden")}
    assert moves["hidden"] == 0 != moves["seen"]


def test_a_history_of_train_rows_shows_no_others(planted, prior):
    rows = replace(planted.rows, is_visible=planted.rows.is_train)
    flipped = replace(rows, label=np.where(rows.is_train, rows.label, 1 - rows.label))
    np.testing.assert_array_equal(asked(prior, flipped), asked(prior, rows))
    assert (asked(prior, replace(flipped, is_visible=np.ones(len(rows.user), bool))) != asked(prior, planted.rows)).any()


@pytest.mark.parametrize("lacking", ["keywords", "texts and years", "all"])
def test_what_the_data_lacks_is_left_out(planted, lacking):
    names = [["a", "b"][: 1 + n % 2] for n in range(60)] if lacking == "texts and years" else [[]] * 60
    texts = [f"some words of item {n % 3}" for n in range(60)] if lacking == "keywords" else [None] * 60
    content = read_content([f"item {n} ({1950 + n})" if lacking == "keywords" else "item" for n in range(60)], texts, names, 0)
    offset = asked(fit(planted.rows, content), planted.rows)
    later = ~planted.rows.is_train
    assert roc_auc_score(planted.rows.label[later], offset[later]) > 0.6


def test_items_are_centred_on_the_average_item_of_each_fold(prior):
    items: Items = prior.items
    weight = items.num_rows / items.num_rows.sum(1, keepdims=True)
    np.testing.assert_allclose(np.einsum("fi,fid->fd", weight, items.counted), 0, atol=1e-5)
    np.testing.assert_allclose(weight.mean(0) @ items.content, 0, atol=1e-5)
