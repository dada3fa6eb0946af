"""Gates on a grid: sums stay, nothing moves further than a step, and the grid is the finest that few mixtures allow."""

from __future__ import annotations

import numpy as np
import pytest

from thinkrec.routing.codebook import GRIDS, fit_codebook, round_gates


@pytest.fixture
def gates():
    """(500, 6) of users, each with an expert or two of their own; the first is served by the global adapter, the second by one expert."""
    rng = np.random.default_rng(0)
    found = rng.dirichlet(np.full(6, 0.3), 500).astype(np.float32)
    found[:2] = np.eye(6)[[5, 0]]
    return found


@pytest.mark.parametrize("num_steps", GRIDS)
@pytest.mark.parametrize("num_most", [1, 2, 6])
def test_rounded_gates_sum_to_1_and_few_are_left(gates, num_steps, num_most):
    units = round_gates(gates, num_steps, num_most)
    assert (units.sum(axis=1) == num_steps).all()
    assert units.min() == 0
    assert (units > 0).sum(axis=1).max() <= num_most
    assert (round_gates(units / num_steps, num_steps, num_most) == units).all()
    assert (units[:2] == num_steps * np.eye(6)[[5, 0]]).all()
    moved = np.abs(units / num_steps - gates).max()
    assert moved < 1 / num_steps if num_most == 6 else moved > 1e-3


def test_of_too_many_gates_the_greatest_stay():
    (units,) = round_gates(np.array([[0.3, 0.1, 0.4, 0.2]]), 10, 2)
    assert units.tolist() == [4, 0, 6, 0]


def test_more_mixtures_are_a_finer_grid(gates):
    books = [fit_codebook([gates[:200], gates[200:]], most, num_most=6) for most in (0, 20, 120, 10**6)]
    assert [book.num_steps for book in books] == sorted({book.num_steps for book in books})
    assert (books[0].num_steps, books[-1].num_steps) == (1, max(GRIDS))
    assert [len(book.mixtures) for book in books] == sorted(len(book.mixtures) for book in books)
    assert all(len(book.mixtures) <= most for book, most in zip(books, (0, 20, 120, 10**6), strict=True))
    errors = [np.abs(book.gates[book.assign(gates)] - gates).max() for book in books]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.01


def test_everybody_is_served_by_his_rounded_gates_and_plain_adapters_come_first(gates):
    book = fit_codebook([gates], 50, num_most=2)
    place = book.assign(gates)
    np.testing.assert_allclose(book.gates[place], round_gates(gates, book.num_steps, 2) / book.num_steps)
    assert (book.gates[:6] == np.eye(6)).all()
    assert place[:2].tolist() == [5, 0]
    assert len(np.unique(book.gates, axis=0)) == len(book.gates) == 6 + len(book.mixtures)


def test_one_adapter_serves_all_alone():
    book = fit_codebook([np.ones((3, 1), np.float32)], 8, num_most=1)
    assert (book.gates.tolist(), book.assign(np.ones((2, 1))).tolist()) == ([[1.0]], [0, 0])
    assert book.assign(np.ones((0, 1))).tolist() == []
