"""The candidates of each user: a union of sources with quotas, without what he has seen and what is not allowed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from thinkrec.config.recommend import RecommendSection
from thinkrec.data.interactions import Interactions
from thinkrec.recommend.histories import part
from thinkrec.recommend.sources import Sources

Ints = NDArray[np.integer]
GIVEN, VECTOR, HISTORY, NEW, POPULAR = ("given", "vector", "history", "new", "popular")
USERS_AT_ONCE = 512  # whose neighbours are held in memory


@dataclass(frozen=True)
class Found:
    """Of one user: candidates in the order in which their sources have them, each with the source that named it first.

    orders: the first items of each source by itself, as far as he may be shown them.
    """

    items: Ints
    sources: list[str]
    orders: Mapping[str, list[int]]


def find(log: Interactions, sources: Sources, settings: RecommendSection, given: Mapping[str, Ints], num_ordered: int = 0) -> list[Found]:
    """The candidates of each user of `log`, a function of his part of the users alone.

    given: allowed items by user id, from a file. num_ordered: how many items `orders` shall have of each source.
    """
    found, vectors = [], sources.user_vectors(log)
    for first in range(0, len(log.user_ids), USERS_AT_ONCE):
        users = part(log, first, USERS_AT_ONCE)
        seen = [set[int]() if settings.seen else own for own in seen_items(users)]
        most = max(settings.num_candidates, num_ordered) + max(map(len, seen))
        named = {VECTOR: sources.by_vector(vectors[first : first + USERS_AT_ONCE], most), HISTORY: sources.by_history(users, most)}
        new = sources.by_content(users, most) if settings.new else [sources.popular[:0]] * len(users.user_ids)
        for place, user_id in enumerate(users.user_ids):
            orders = {name: lists[place] for name, lists in named.items()} | {POPULAR: sources.popular}
            offered = orders | {GIVEN: given.get(user_id, sources.popular[:0]), NEW: new[place]}
            lists = [(name, offered[name], quota) for name, quota in quotas(settings, user_id in given)]
            chosen = union(lists, seen[place], settings.num_candidates)
            alone = {name: list(union([(name, items, num_ordered)], seen[place], num_ordered)) for name, items in orders.items()}
            found.append(Found(np.array(list(chosen), np.int64), list(chosen.values()), alone))
    return found


def seen_items(log: Interactions) -> list[set[int]]:
    """The items with which each user has rows."""
    return [set(log.item[begin:end].tolist()) for begin, end in pairwise(log.offsets)]


def quotas(settings: RecommendSection, is_given: bool) -> list[tuple[str, int]]:
    """How many candidates each source may name, in the order in which they are asked; popularity fills up, unless all are given."""
    num = settings.num_candidates
    num_given = round(settings.given * num) if is_given else 0
    rest = num - num_given
    shares = [(VECTOR, round(settings.by_vector * rest)), (HISTORY, round(settings.by_history * rest)), (NEW, settings.num_new(rest))]
    return [(name, quota) for name, quota in [(GIVEN, num_given), *shares] if quota] + [(POPULAR, num)] * (rest > 0)


def union(named: Sequence[tuple[str, Iterable[int], int]], excluded: Collection[int], num: int) -> dict[int, str]:
    """{item: source}, at most `num`, of (source, items, quota) in turn: an item counts for the first source that names it."""
    chosen = dict[int, str]()
    for source, items, quota in named:
        left = min(quota, num - len(chosen))
        for item in items:
            if left <= 0:
                break
            if item not in chosen and item not in excluded:
                chosen[int(item)] = source
                left -= 1
    return chosen
