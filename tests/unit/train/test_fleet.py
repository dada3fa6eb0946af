"""The queue: longest first, each expert once, nothing lost when a group dies."""

from __future__ import annotations

from thinkrec.train.fleet import Queue


def test_longest_first_then_lowest_number():
    queue = Queue({0: 5, 1: 9, 2: 5})
    assert [queue.take(group) for group in (7, 8, 9)] == [1, 0, 2]
    assert queue.take(10) is None


def test_a_group_that_comes_back_gets_its_unfinished_expert_again():
    queue = Queue({0: 1, 1: 2})
    assert queue.take(0) == 1
    assert queue.take(0) == 1
    queue.finish(0)
    assert queue.take(0) == 0
    queue.finish(0)
    assert queue.done == [1, 0]
    assert queue.take(0) is None


def test_what_a_dead_group_held_goes_to_another():
    queue = Queue({0: 1, 1: 2})
    queue.take(0)
    queue.abandon(0)
    assert [queue.take(1)] == [1]
    queue.finish(1)
    assert queue.take(1) == 0
