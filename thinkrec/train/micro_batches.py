"""Which worker takes which rows of a step through the model together: a pure function of the rows, the same on every worker.

Rows that share a history go together, and so do those of a run (see order.py). All workers get the same number of micro batches, or they
would wait for each other under ZeRO-3 until the watchdog comes, and about the same number of tokens, or all would wait for the slowest.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

from torch import Tensor

from thinkrec.model.batch import Instance
from thinkrec.model.prefix_batch import num_places, shared_prefixes

Unit = tuple[int, int, list[int]]  # minus its tokens, its first row, its rows by number: so the longest is the least


def deal(rows: Sequence[Instance], gates: Tensor, max_tokens: int, num_workers: int, run_length: int = 1) -> list[list[list[int]]]:
    """For each worker, the numbers of the rows of each of its micro batches: the fewest of at most `max_tokens` tokens.

    Where a run or a row is longer than that, of at most as many as the longest has. The largest micro batches come first: what does not fit
    the memory fails in the first step, and what is smaller fits in its place.
    """

    def unit(members: list[int]) -> Unit:
        return -num_places([rows[at] for at in members], gates[members]), members[0], members

    if run_length > 1:
        units = [unit(list(range(begin, begin + run_length))) for begin in range(0, len(rows), run_length)]
    else:
        units = [unit(sequence.rows) for sequence in shared_prefixes(rows, gates)]
    limit = len(rows) // run_length // num_workers  # of the micro batches of a worker
    count = min(limit, -(sum(tokens for tokens, _, _ in units) // (num_workers * max_tokens)))
    while True:
        units = _halved(units, unit, max_tokens, num_workers * count, run_length)
        found = _spread(units, num_workers * count)
        if count == limit or -found[0][0] <= max(max_tokens, -units[0][0]):
            return [[members for _, _, members in found[worker::num_workers]] for worker in range(num_workers)]
        count += 1


def _halved(units: list[Unit], unit: Callable[[list[int]], Unit], max_tokens: int, least: int, run_length: int) -> list[Unit]:
    """At least so many units, none longer than `max_tokens` if it can be parted: what shares a history is cut, and the history copied."""
    waiting, whole = sorted(units), list[Unit]()
    while waiting and (-waiting[0][0] > max_tokens or len(waiting) + len(whole) < least):
        longest = heapq.heappop(waiting)
        members, middle = longest[2], len(longest[2]) // 2
        if len(members) > run_length:
            heapq.heappush(waiting, unit(members[:middle]))
            heapq.heappush(waiting, unit(members[middle:]))
        else:
            whole.append(longest)
    return sorted(waiting + whole)


def _spread(units: list[Unit], num_bins: int) -> list[Unit]:
    """The units in so many bins of about equal length, none empty, the longest first: each to what is shortest, the longest first."""
    bins: list[Unit] = [(0, number, []) for number in range(num_bins)]
    for tokens, _, members in units:
        filled, number, held = bins[0]
        heapq.heapreplace(bins, (filled - tokens, number, held + members))
    return sorted((-filled, number, members) for filled, number, members in bins)
