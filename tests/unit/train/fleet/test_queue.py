"""Packs and the queue: every expert once, longest first, balanced; nothing lost when a group dies."""

from __future__ import annotations

import itertools
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinkrec.config.training import TrainSection
from thinkrec.train.fleet.queue import BALANCE, Pack, Queue, lower_bound, pack_limit, packs, simulate

COSTS = st.dictionaries(st.integers(0, 500), st.floats(1, 1e4), min_size=1, max_size=40)
GROUPS = st.integers(1, 12)


def pack(*experts: int, cost: float = 1.0) -> Pack:
    return Pack(experts, (cost,) * len(experts))


@settings(max_examples=50, deadline=None)
@given(COSTS, GROUPS, st.integers(1, 9))
def test_every_expert_is_in_one_pack_of_lawful_size_and_the_longest_comes_first(costs, num_groups, max_pack):
    made = packs(costs, num_groups, max_pack)
    assert sorted(expert for one in made for expert in one.experts) == sorted(costs)
    assert all(one.costs == tuple(costs[expert] for expert in one.experts) for one in made)
    assert max(len(one.experts) for one in made) <= (1 if len(costs) <= num_groups else max_pack)
    assert [one.cost for one in made] == sorted((one.cost for one in made), reverse=True)


@settings(max_examples=50, deadline=None)
@given(COSTS, GROUPS, st.integers(2, 9))
def test_the_makespan_lies_between_its_bounds_and_packing_costs_no_balance(costs, num_groups, max_pack):
    alone = simulate(packs(costs, num_groups, 1), num_groups)
    packed = simulate(packs(costs, num_groups, max_pack), num_groups)
    bound = lower_bound(costs.values(), num_groups)
    assert packed.lower_bound == pytest.approx(alone.lower_bound) == pytest.approx(bound)
    assert bound * (1 - 1e-9) <= packed.makespan <= BALANCE * alone.makespan * (1 + 1e-9)
    assert 0 <= packed.idle_share <= 1


@settings(max_examples=50, deadline=None)
@given(COSTS, GROUPS, st.integers(1, 9), st.floats(0, 100))
def test_a_schedule_holds_every_pack_once_and_no_group_idles_while_packs_wait(costs, num_groups, max_pack, switch):
    made = packs(costs, num_groups, max_pack)
    found = simulate(made, num_groups, switch)
    assert sorted(itertools.chain(*found.assignments), key=id) == sorted(made, key=id)
    loads = [sum(one.cost + switch for one in taken) for taken in found.assignments]
    assert found.makespan == pytest.approx(max(loads))
    # When the last pack of the fullest group was taken, every other group was busy at least until then.
    fullest = max(range(num_groups), key=lambda group: loads[group])
    began_last = loads[fullest] - found.assignments[fullest][-1].cost - switch
    assert min(loads) >= began_last - 1e-9 * found.makespan


def best_makespan(costs: list[float], num_groups: int) -> float:
    """By trying every assignment."""
    every = itertools.product(range(num_groups), repeat=len(costs))
    return min(max(sum(c for c, g in zip(costs, groups, strict=True) if g == group) for group in range(num_groups)) for groups in every)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(1, 100), min_size=1, max_size=6), st.integers(1, 3))
def test_the_lower_bound_is_one_and_longest_first_keeps_grahams_promise(costs, num_groups):
    best = best_makespan(costs, num_groups)
    assert lower_bound(costs, num_groups) <= best * (1 + 1e-9)
    found = simulate(packs(dict(enumerate(costs)), num_groups, 1), num_groups)
    assert best * (1 - 1e-9) <= found.makespan <= (4 / 3 - 1 / (3 * num_groups)) * best * (1 + 1e-9)


def test_shortest_first_would_be_later():
    """The control: the promise above is the order's, not the queue's."""
    costs = {0: 1.0, 1: 1.0, 2: 1.0, 3: 1.0, 4: 4.0}
    assert simulate(packs(costs, 2, 1), 2).makespan == 4
    backwards = Queue([pack(expert, cost=1 / cost) for expert, cost in costs.items()])  # the longest waits longest
    free = [0.0, 0.0]
    while (taken := backwards.take(group := free.index(min(free)))) is not None:
        free[group] += costs[taken.experts[0]]
        backwards.finish(group)
    assert max(free) == 6


def test_equal_experts_fill_packs_and_a_giant_stays_alone():
    assert [one.experts for one in packs(dict.fromkeys(range(16), 5.0), 2, 8)] == [tuple(range(8)), tuple(range(8, 16))]
    made = packs({0: 100.0} | dict.fromkeys(range(1, 21), 1.0), 2, 8)
    assert made[0].experts == (0,)
    assert max(len(one.experts) for one in made) == 8


def test_a_switch_costs_its_time_between_packs():
    made = packs({0: 3.0, 1: 2.0, 2: 1.0}, 1, 1)
    assert simulate(made, 1).makespan == 6
    assert simulate(made, 1, switch_s=0.5).makespan == 7.5


def test_a_group_that_comes_back_gets_its_unfinished_pack_again():
    queue = Queue([pack(0), pack(1, 2)])
    assert queue.take(0) == queue.take(0) == pack(1, 2)
    queue.finish(0)
    assert queue.take(0) == pack(0)
    queue.finish(0)
    assert queue.done == [pack(1, 2), pack(0)]
    assert queue.take(0) is None


def test_experts_of_a_failed_pack_try_alone_and_one_that_fails_alone_is_dropped():
    queue = Queue([Pack((1, 2), (3.0, 1.0)), pack(0, cost=2.0)])
    assert queue.take(0).experts == (1, 2)
    assert queue.fail(0).experts == (1, 2)
    assert [queue.take(group).experts for group in (0, 1, 2)] == [(1,), (0,), (2,)]
    assert queue.fail(0).experts == (1,)
    assert not queue.has_work(0)
    assert queue.fail(0) is None
    assert queue.has_work(1)  # it still holds one
    queue.finish(1)
    queue.finish(2)
    assert [one.experts for one in queue.done] == [(0,), (2,)]


def test_what_a_lost_group_held_goes_to_the_next_one_whole():
    queue = Queue([pack(0), pack(1, 2, cost=2.0)])
    assert queue.take(0).experts == (1, 2)
    assert queue.give_back(0).experts == (1, 2)
    assert queue.give_back(0) is None
    assert [queue.take(group).experts for group in (1, 2)] == [(1, 2), (0,)]


def test_a_pack_without_its_committed_experts_keeps_the_others_costs():
    assert Pack((4, 7, 9), (3.0, 2.0, 1.0)).only({9, 4, 5}) == Pack((4, 9), (3.0, 1.0))
    assert pack(1, 2).only(()) == Pack((), ())


def test_a_closed_queue_gives_out_nothing_more_but_what_is_held_can_end():
    queue = Queue([pack(0), pack(1)])
    held = queue.take(0)
    queue.close()
    assert queue.take(1) is None
    assert queue.take(0) is held
    queue.finish(0)
    assert not queue.has_work(0)


@pytest.mark.parametrize(
    ("train", "num_experts", "expected"),
    [
        ({"micro_batch_tokens": 6400, "experts": {"batch_size": 8}}, 64, 8),  # a micro batch holds eight batches
        ({"micro_batch_tokens": 6400, "experts": {"batch_size": 8}}, 6, 3),  # but two groups share six experts
        ({"micro_batch_tokens": 6400, "experts": {"batch_size": 8}}, 2, 1),
        ({"micro_batch_tokens": 3200, "experts": {"batch_size": 64}}, 64, 1),  # a batch fills two micro batches: nothing to gain
        ({"micro_batch_tokens": 3200, "workers_per_group": 4, "experts": {"batch_size": 64}}, 64, 2),
        ({"max_pack": 5}, 64, 5),
    ],
)
def test_packs_are_as_large_as_a_micro_batch_unless_the_user_says(train, num_experts, expected):
    assert pack_limit(TrainSection.model_validate(train), num_experts, row_tokens=100.0) == expected


def test_neither_ray_nor_torch_is_needed():
    code = "import sys, thinkrec.train.fleet.queue; sys.exit(any(name in sys.modules for name in ('ray', 'torch', 'numpy')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
