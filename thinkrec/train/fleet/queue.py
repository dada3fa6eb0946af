"""The fleet in pure Python: experts cut into packs, and which group of workers takes which pack next.

No Ray and no torch here, so the executor, plans and simulators run the same code. Packs wait longest first and a free group takes the
next one, keeping the base it has loaded. Packing serves speed (several experts share a pass through the base), cutting serves balance;
so packs are as large as balance allows.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from thinkrec.config.training import TrainSection

BALANCE = 1.005  # larger packs may end this much later than the best balanced ones, at equal cost per token
FINEST = 1e-3  # of a group's load: caps below it change no balance


@dataclass(frozen=True, order=True)
class Pack:
    """Experts that train in one job, with what each costs alone (tokens or seconds)."""

    experts: tuple[int, ...]
    costs: tuple[float, ...]

    @property
    def cost(self) -> float:
        """The sum over its experts: what packing saves is not counted on."""
        return sum(self.costs)

    def only(self, experts: Collection[int]) -> Pack:
        """The same pack without all others."""
        kept = [(expert, cost) for expert, cost in zip(self.experts, self.costs, strict=True) if expert in experts]
        return Pack(tuple(expert for expert, _ in kept), tuple(cost for _, cost in kept))


@dataclass(frozen=True)
class Schedule:
    """What a fleet would do: times in the unit of the costs, and each group's packs in order."""

    makespan: float
    idle_share: float
    lower_bound: float
    assignments: tuple[tuple[Pack, ...], ...]


class Queue:
    """Packs waiting (longest first), in flight by group, and done.

    What a group held when it died is given to it again, so nothing is lost and nothing is trained twice.
    """

    def __init__(self, packs: Iterable[Pack]) -> None:
        self._waiting = [(-pack.cost, pack) for pack in packs]
        heapq.heapify(self._waiting)
        self._in_flight: dict[int, Pack] = {}
        self.done: list[Pack] = []

    def has_work(self, group: int) -> bool:
        """Whether `take` would give this group a pack."""
        return bool(self._waiting) or group in self._in_flight

    def take(self, group: int) -> Pack | None:
        """The next pack for this group, or the one it had not finished; None when the work is out."""
        if group not in self._in_flight:
            if not self._waiting:
                return None
            self._in_flight[group] = heapq.heappop(self._waiting)[1]
        return self._in_flight[group]

    def finish(self, group: int) -> None:
        """The experts of the group's pack are committed."""
        self.done.append(self._in_flight.pop(group))

    def fail(self, group: int) -> Pack | None:
        """The group's pack failed for good: its experts wait again, one by one, and a single expert is dropped. Returns that pack."""
        pack = self._in_flight.pop(group, None)
        if pack is not None and len(pack.experts) > 1:
            for expert, cost in zip(pack.experts, pack.costs, strict=True):
                heapq.heappush(self._waiting, (-cost, Pack((expert,), (cost,))))
        return pack

    def give_back(self, group: int) -> Pack | None:
        """The group is gone for good: its pack waits again, for any other group. Returns that pack."""
        pack = self._in_flight.pop(group, None)
        if pack is not None:
            heapq.heappush(self._waiting, (-pack.cost, pack))
        return pack

    def close(self) -> None:
        """Give out nothing more."""
        self._waiting.clear()


def packs(costs: Mapping[int, float], num_groups: int, max_pack: int) -> list[Pack]:
    """Every expert in exactly one pack of at most `max_pack`, longest pack first; alone while groups are plenty.

    Neighbours by cost share a pack, because they end together, and a pack's cost is capped. Of all caps tried, from a group's whole load
    down to single experts, the largest one wins whose packs end within `BALANCE` of the earliest end found.
    """
    order = sorted(costs, key=lambda expert: (-costs[expert], expert))
    alone = [Pack((expert,), (costs[expert],)) for expert in order]
    if max_pack == 1 or len(order) <= num_groups:
        return alone
    found: list[list[Pack]] = []
    cap = sum(costs.values()) / num_groups
    least = max(costs[order[-1]], FINEST * cap)
    while cap >= 2 * least > 0:
        found.append(_cut(order, costs, cap, max_pack))
        cap *= 0.75
    found.append(alone)
    ends = [simulate(cut, num_groups).makespan for cut in found]
    return next(cut for cut, end in zip(found, ends, strict=True) if end <= BALANCE * min(ends))


def _cut(order: Sequence[int], costs: Mapping[int, float], cap: float, max_pack: int) -> list[Pack]:
    """Consecutive experts of `order` in packs that reach neither the cap (unless alone above it) nor more than `max_pack` experts."""
    cut: list[list[int]] = [[]]
    for expert in order:
        full = len(cut[-1]) == max_pack or sum(costs[other] for other in cut[-1]) + costs[expert] > cap * (1 + 1e-9)
        if cut[-1] and full:
            cut.append([])
        cut[-1].append(expert)
    made = [Pack(tuple(experts), tuple(costs[expert] for expert in experts)) for experts in cut]
    return sorted(made, key=lambda pack: (-pack.cost, pack.experts))


def simulate(packs: Collection[Pack], num_groups: int, switch_s: float = 0.0) -> Schedule:
    """What the queue does when every pack takes its cost, and taking one costs `switch_s` more; all times in the unit of the costs."""
    queue, free = Queue(packs), [(0.0, group) for group in range(num_groups)]
    taken: list[list[Pack]] = [[] for _ in range(num_groups)]
    ends = [0.0] * num_groups
    while free:
        now, group = heapq.heappop(free)
        if taken[group]:
            queue.finish(group)
        if (pack := queue.take(group)) is not None:
            taken[group].append(pack)
            ends[group] = now + switch_s + pack.cost
            heapq.heappush(free, (ends[group], group))
    makespan, work = max(ends), sum(pack.cost for pack in packs)
    bound = lower_bound([cost for pack in packs for cost in pack.costs], num_groups)
    return Schedule(makespan, 1 - work / (num_groups * makespan) if makespan else 0.0, bound, tuple(map(tuple, taken)))


def lower_bound(costs: Collection[float], num_groups: int) -> float:
    """No schedule of these experts on so many groups ends before it.

    The largest of: the mean load of a group, and for every k the sum of the k + 1 cheapest of the k * num_groups + 1 costliest experts,
    k + 1 of which must meet in one group (k = 0 is the costliest expert).
    """
    order = sorted(costs, reverse=True)
    meetings = (sum(order[k * num_groups - k : k * num_groups + 1]) for k in range((len(order) - 1) // num_groups + 1)) if order else ()
    bound: float = max([sum(order) / num_groups, *meetings])
    return bound


def pack_limit(train: TrainSection, num_experts: int, row_tokens: float) -> int:
    """How many experts may share a pack: `train.max_pack`, or as many as one micro batch holds, and no more than a group's share.

    Packing pays where an expert's own batch of rows of `row_tokens` leaves a micro batch empty; a full one costs the same whoever's rows it
    holds.
    """
    if train.max_pack:
        return train.max_pack
    room = int(train.micro_batch_tokens * train.workers_per_group // (train.experts.batch_size * max(1.0, row_tokens)))
    return max(1, min(room, -(-num_experts // train.num_groups)))
