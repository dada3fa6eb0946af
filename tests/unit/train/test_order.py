"""Batch order: every row every epoch, runs of one user, the same rows whatever the number of workers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinkrec.errors import DataError
from thinkrec.train.order import Order, Runs, Whole


def users_of(counts):
    return np.repeat(np.arange(len(counts)), counts)


def order_of(users, num_traces, batch_size, run_length, trace_share, seed, snapshots=None):
    """The order of rows that lie in one part."""
    return Order(Whole(users, snapshots), np.array([num_traces]), batch_size, run_length, trace_share, seed)


class Parted:
    """Rows of several parts, with users and snapshots of their own."""

    def __init__(self, parts):
        self.parts, self.opened = parts, []

    @property
    def counts(self):
        return np.array([len(users) for users in self.parts])

    def keys(self, part):
        self.opened.append(part)
        return self.parts[part], np.arange(len(self.parts[part])) // 2


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(0, 4), max_size=5), min_size=1, max_size=6), st.sampled_from([1, 2]), st.sampled_from([1, 7, 99]))
def test_rows_of_many_parts_are_shown_once_an_epoch_whatever_the_window(counts, run_length, window_rows):
    parted = Parted([users_of(one) for one in counts])
    num_rows = int(parted.counts.sum())
    if not num_rows:
        return
    runs = Runs(parted, run_length, (1, 2), window_rows)
    first, second = (runs.take(epoch * runs.num_rows, runs.num_rows) for epoch in (0, 1))
    for shown in (first, second):
        assert set(shown) == set(range(num_rows))
        if run_length == 1:
            assert len(shown) == num_rows
    part_of, user_of = np.repeat(np.arange(len(counts)), parted.counts), np.concatenate(parted.parts)
    for run in first.reshape(-1, run_length):
        assert len(set(part_of[run])) == len(set(user_of[run])) == 1
    pieces = np.concatenate([runs.take(0, 1), runs.take(1, runs.num_rows)])  # however it is asked for
    assert np.array_equal(pieces, np.concatenate([first, second])[: 1 + runs.num_rows])


def test_memory_holds_one_window_and_the_next_epoch_deals_the_parts_anew():
    parted = Parted([users_of([5, 5]) for _ in range(20)])
    runs = Runs(parted, 1, (1, 2), window_rows=50)
    windows = []
    for begin in range(0, 2 * runs.num_rows, 50):
        parted.opened.clear()
        part = set(runs.take(begin, 50) // 10)
        assert set(parted.opened) == part
        assert len(part) == 5
        windows.append(frozenset(part))
    assert len(set(windows[:4])) == 4
    assert set(windows[:4]) != set(windows[4:])
    parted.opened.clear()
    runs.take(2 * runs.num_rows - 30, 30)
    assert not parted.opened  # the last window is still there


def test_an_epoch_of_single_rows_shows_each_row_once():
    order = order_of(users_of([5, 3, 4]), 0, 4, 1, 0.0, seed=1)
    shown = np.concatenate([order.batch(step) for step in range(order.num_steps(1))])
    assert sorted(shown) == list(range(12))


def test_epochs_differ_and_seeds_differ():
    first = order_of(users_of([30]), 0, 30, 1, 0.0, seed=1)
    assert not np.array_equal(first.batch(0), first.batch(1))
    assert not np.array_equal(first.batch(0), order_of(users_of([30]), 0, 30, 1, 0.0, seed=2).batch(0))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 20))
def test_runs_hold_one_user_and_no_row_is_left_out(counts, step):
    users = users_of(counts)
    order = order_of(users, 0, 8, 4, 0.0, seed=3)
    assert all(len(set(users[run])) == 1 for run in order.batch(step).reshape(-1, 4))
    shown = np.concatenate([order.batch(at) for at in range(2 * len(users))])
    assert set(shown) == set(range(len(users)))


@pytest.mark.parametrize("run_length", [1, 4])
def test_rows_of_one_history_stay_side_by_side_and_an_epoch_shows_each_once(run_length):
    users = users_of([8, 4, 12, 8, 4])
    snapshots = np.arange(36) // 4 * 4
    order = order_of(users, 0, 12, run_length, 0.0, seed=3, snapshots=snapshots)
    shown = np.concatenate([order.batch(step) for step in range(order.num_steps(1))])
    assert sorted(shown) == list(range(36))
    assert np.array_equal(shown.reshape(-1, 4), shown.reshape(-1, 4)[:, :1] + np.arange(4))
    assert (np.diff(shown.reshape(-1, 4)[:, 0]) < 0).any()
    assert not np.array_equal(shown, np.concatenate([order.batch(step + 3) for step in range(3)]))


def test_a_history_that_a_batch_cuts_goes_on_in_the_next_one():
    order = order_of(users_of([3, 5, 2]), 0, 4, 1, 0.0, seed=3, snapshots=np.array([0, 0, 0, 3, 3, 3, 3, 3, 8, 8]))
    shown = np.concatenate([order.batch(step) for step in range(5)])
    assert sorted(shown[:10]) == sorted(shown[10:]) == list(range(10))
    assert (np.diff(np.flatnonzero(np.isin(shown[:10], range(3, 8)))) == 1).all()


def test_a_step_is_a_pure_function_of_its_number():
    order = order_of(users_of([9, 9]), 3, 8, 1, 0.25, seed=5)
    later = order.batch(7).copy()
    order.batch(2)
    assert np.array_equal(order.batch(7), later)


def test_traces_take_their_share_of_every_batch():
    order = order_of(users_of([50]), 5, 20, 1, 0.2, seed=1)
    assert all((order.batch(step) >= 50).sum() == 4 for step in range(10))
    assert all((order_of(users_of([50]), 5, 20, 1, 0.0, seed=1).batch(step) < 50).all() for step in range(10))


def test_more_traces_change_neither_the_plain_rows_of_a_batch_nor_the_number_of_steps():
    """So a training may go on with all traces after an epoch with the first of them."""
    users = users_of([30])
    first, whole = order_of(users, 3, 8, 1, 0.25, seed=1), order_of(users, 12, 8, 1, 0.25, seed=1)
    assert first.epoch_steps == whole.epoch_steps == 5
    assert first.num_steps(2.0) == whole.num_steps(2.0) == 10
    for step in range(10):
        assert [row for row in first.batch(step) if row < 30] == [row for row in whole.batch(step) if row < 30]
    assert {row for step in range(5) for row in first.batch(step) if row >= 30} == {30, 31, 32}


def test_no_rows_is_a_named_error():
    with pytest.raises(DataError, match="no train row"):
        order_of(np.array([], dtype=np.int64), 0, 8, 1, 0.0, seed=1)
