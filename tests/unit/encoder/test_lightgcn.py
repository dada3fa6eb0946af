"""LightGCN's graph against a dense oracle, what it learns from planted tastes, and that it repeats itself bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tastes import NUM_ITEMS, NUM_USERS, item_mean_auc, pair_auc

from thinkrec.config.model import EncoderSection
from thinkrec.encoder import lightgcn
from thinkrec.encoder.factors import Factors, Ratings
from thinkrec.errors import DataError

SETTINGS = EncoderSection(source="lightgcn", dim=8, lr=0.02, num_epochs=6, batch_size=512)


@pytest.fixture(scope="module")
def factors(pairs):
    return fit(*pairs[:2])


def fit(rows: Ratings, valid: Ratings, settings: EncoderSection = SETTINGS, seed: int = 1) -> Factors:
    return lightgcn.train(rows, valid, NUM_USERS, NUM_ITEMS, settings, seed)


def dense_propagation(rows: Ratings, start: np.ndarray, num_users: int, num_layers: int) -> np.ndarray:
    """The published formula on full matrices, in NumPy."""
    likes = np.zeros((num_users, len(start) - num_users))
    likes[rows.user[rows.label == 1], rows.item[rows.label == 1]] = 1
    whole = np.block([[np.zeros((num_users,) * 2), likes], [likes.T, np.zeros((len(likes.T),) * 2)]])
    degree = whole.sum(1)
    half = np.diag(np.where(degree > 0, 1 / np.sqrt(np.maximum(degree, 1)), 0))
    step = half @ whole @ half
    return sum(np.linalg.matrix_power(step, layer) @ start for layer in range(num_layers + 1)) / (num_layers + 1)


@pytest.mark.parametrize("num_layers", [0, 1, 2, 3])
def test_propagation_is_the_dense_formula(num_layers):
    rng = np.random.default_rng(0)
    places = rng.permutation(7 * 5)[:20]
    rows = Ratings(places // 5, places % 5, rng.integers(0, 2, 20).astype(np.float32))
    start = rng.normal(size=(12, 3))
    graph = lightgcn.adjacency(rows, 7, 5)
    found = lightgcn.propagate(graph.double(), torch.from_numpy(start), num_layers)
    np.testing.assert_allclose(found, dense_propagation(rows, start, 7, num_layers), rtol=1e-6, atol=1e-7)


def test_a_dislike_is_no_edge():
    rows = Ratings(np.array([0, 0, 1]), np.array([0, 1, 1]), np.array([1, 0, 0], np.float32))
    expected = np.zeros((4, 4))
    expected[0, 2] = expected[2, 0] = 1
    np.testing.assert_array_equal(lightgcn.adjacency(rows, 2, 2).to_dense(), expected)


def test_beats_chance_and_the_item_mean_on_planted_tastes(pairs, factors):
    train, _, test = pairs
    assert pair_auc(factors, test) > max(0.5, item_mean_auc(train, test)) + 0.2


def test_learns_nothing_from_shuffled_labels(pairs):
    train, valid, test = pairs
    shuffled = Ratings(train.user, train.item, np.random.default_rng(1).permutation(train.label))
    assert abs(pair_auc(fit(shuffled, valid), test) - 0.5) < 0.06


def test_same_seed_gives_the_same_bits_and_another_seed_does_not(pairs, factors):
    again, other = fit(*pairs[:2]), fit(*pairs[:2], seed=2)
    assert again.users.tobytes() == factors.users.tobytes()
    assert again.items.tobytes() == factors.items.tobytes()
    assert other.users.tobytes() != factors.users.tobytes()


def test_every_layer_counts(pairs, factors):
    deeper = fit(*pairs[:2], SETTINGS.model_copy(update={"lightgcn": SETTINGS.lightgcn.model_copy(update={"num_layers": 3})}))
    assert deeper.users.tobytes() != factors.users.tobytes()


def test_refuses_no_rows():
    nobody = Ratings(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
    with pytest.raises(DataError, match="no train rows"):
        fit(nobody, nobody)
