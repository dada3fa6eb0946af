"""Matrix factorisation finds planted structure, finds nothing in shuffled labels, and repeats itself bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tastes import NUM_ITEMS, NUM_USERS, item_mean_auc, pair_auc

from thinkrec.config.model import EncoderSection
from thinkrec.encoder import mf
from thinkrec.encoder.factors import Factors, Ratings, predict, score
from thinkrec.errors import DataError, NonFiniteLoss

SETTINGS = EncoderSection(dim=4, lr=0.03, num_epochs=12, batch_size=256)


@pytest.fixture(scope="module")
def factors(pairs):
    return fit(*pairs[:2])


def fit(rows: Ratings, valid: Ratings, settings: EncoderSection = SETTINGS, seed: int = 1) -> Factors:
    return mf.train(rows, valid, NUM_USERS, NUM_ITEMS, settings, seed)


def test_beats_the_item_mean_on_planted_tastes(pairs, factors):
    train, _, test = pairs
    assert pair_auc(factors, test) > item_mean_auc(train, test) + 0.2


def test_learns_nothing_from_shuffled_labels(pairs):
    train, valid, test = pairs
    shuffled = Ratings(train.user, train.item, np.random.default_rng(1).permutation(train.label))
    assert abs(pair_auc(fit(shuffled, valid), test) - 0.5) < 0.06


def test_same_seed_gives_the_same_bits_and_another_seed_does_not(pairs, factors):
    again, other = fit(*pairs[:2]), fit(*pairs[:2], seed=2)
    assert again.users.tobytes() == factors.users.tobytes()
    assert again.items.tobytes() == factors.items.tobytes()
    assert other.users.tobytes() != factors.users.tobytes()


def test_keeps_the_best_epoch_of_valid(pairs):
    train, valid, _ = pairs
    overfit = SETTINGS.model_copy(update={"weight_decay": 0.0, "lr": 0.1, "num_epochs": 15})
    best = fit(train, valid, overfit)
    assert best.num_epochs < 15
    assert best.valid_auc == pair_auc(best, valid)
    stopped_there = fit(train, valid, overfit.model_copy(update={"num_epochs": best.num_epochs}))
    assert stopped_there.users.tobytes() == best.users.tobytes()


def test_without_usable_valid_rows_the_last_epoch_stands(pairs):
    train, valid, _ = pairs
    one_class = Ratings(valid.user, valid.item, np.ones_like(valid.label))
    found = fit(train, one_class)
    assert (found.num_epochs, found.valid_auc) == (SETTINGS.num_epochs, None)


def test_scores_come_back_from_the_exported_vectors(pairs, factors):
    test = pairs[2]
    users, items = factors.users[test.user], factors.items[test.item]
    by_hand = [factors.mean + p[-1] + q[-1] + p[:-1] @ q[:-1] for p, q in zip(users, items, strict=True)]
    np.testing.assert_allclose(score(users, items, factors.mean), by_hand, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(predict(factors.users, factors.items, factors.mean, test), score(users, items, factors.mean))
    in_torch = score(torch.from_numpy(users), torch.from_numpy(items), factors.mean)
    np.testing.assert_allclose(in_torch.numpy(), by_hand, rtol=1e-4, atol=1e-5)


def test_a_stranger_scores_as_zeros(factors):
    rows = Ratings(np.array([-1, -1]), np.array([3, -1]), np.zeros(2, np.float32))
    np.testing.assert_allclose(
        predict(factors.users, factors.items, factors.mean, rows), [factors.mean + factors.items[3, -1], factors.mean], rtol=1e-6
    )


def test_refuses_no_rows_and_a_runaway_fit(pairs):
    nobody = Ratings(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
    with pytest.raises(DataError, match="no train rows"):
        fit(nobody, nobody)
    with pytest.raises(NonFiniteLoss, match="diverged"):
        fit(*pairs[:2], SETTINGS.model_copy(update={"lr": 1e30}))
