"""What users of the planted world like, and by which rule: tastes of facets, and in the world of rules settings that turn them round.

In the linear world every facet of an item adds to its worth. In the world of rules the last facet of an item is its setting and adds
nothing, but half of the settings turn round what the others are worth: a conjunction where a dislike becomes a like ("heist, but only with
satire"), an exception where a like becomes a dislike. Each logic has its own tastes and its own turning settings. And users change their
minds: a setting that also stood in the user's row before is no news and turns nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thinkrec.config.data import WorldSection

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

SETTING_SHARE = 1 / 3  # of the facets, in the world of rules


@dataclass(frozen=True)
class Tastes:
    """Of each logic: `worth` (num_logics, num_facets) of every facet, and which settings turn it round, `turns` of the same shape."""

    worth: Floats
    turns: Bools


@dataclass(frozen=True)
class Rules:
    """What decides each row, by its user's dominant logic."""

    turned: Bools  # the setting turns the tastes round
    repeated: Bools  # it would, but stood in the user's row before


def num_settings(settings: WorldSection) -> int:
    """The last so many facets are settings; none in the linear world."""
    return round(SETTING_SHARE * settings.num_facets) if settings.taste == "rules" else 0


def has_settings(tastes: Tastes) -> bool:
    """Whether anything turns tastes round."""
    return bool(tastes.turns.any())


def draw_facets(settings: WorldSection, rng: np.random.Generator) -> Ints:
    """(num_items, facets_per_item): different facets of each item, in the world of rules the last one a setting."""
    num_plain, num_drawn = settings.num_facets - num_settings(settings), settings.facets_per_item - (settings.taste == "rules")
    facets = np.array([rng.permutation(num_plain)[:num_drawn] for _ in range(settings.num_items)])
    if settings.taste == "linear":
        return facets
    return np.column_stack([facets, rng.integers(num_plain, settings.num_facets, settings.num_items)])


def draw_tastes(settings: WorldSection, facets: Ints, rng: np.random.Generator) -> Tastes:
    """The sum of an item's worths has mean 0 and variance 1 over the items, before settings turn it.

    On half of the facets as many logics like as dislike, so two logics are opposite there; on the others each decides alone.
    """
    shape = (settings.num_logics, settings.num_facets)
    sign = rng.choice([-1, 1], size=shape)
    balanced = np.where(np.arange(settings.num_logics) % 2, -1, 1)[:, None] * rng.choice([-1, 1], size=settings.num_facets)
    contested = rng.permutation(settings.num_facets)[: settings.num_facets // 2]
    sign[:, contested] = rng.permuted(balanced, axis=0)[:, contested]
    drawn = sign * rng.uniform(0.5, 1.5, size=shape)
    last = num_settings(settings)
    plain = facets[:, :-1] if last else facets
    utility = drawn[:, plain].sum(axis=2)
    worth: Floats = (drawn - utility.mean(axis=1, keepdims=True) / plain.shape[1]) / utility.std(axis=1, keepdims=True)
    turns = np.zeros(shape, bool)
    if last:
        worth[:, -last:] = 0
        turns[:, -last:] = rng.permuted(np.tile(np.arange(last) < last // 2, (settings.num_logics, 1)), axis=1)
    return Tastes(worth, turns)


def row_worths(tastes: Tastes, facets: Ints, repeats: Bools) -> Iterator[Floats]:
    """Logic by logic what each facet of a row's item is worth: (rows, facets_per_item).

    `facets` (rows, facets_per_item) of the rows' items; `repeats`: the row's setting stood in the user's row before.
    """
    for worth, turns in zip(tastes.worth, tastes.turns, strict=True):
        turned = turns[facets[:, -1]] & ~repeats
        yield np.where(turned[:, None], -worth[facets], worth[facets])


def set_again(user: Ints, setting: Ints) -> Bools:
    """Whether a row's setting is that of the user's row before; rows in order of time."""
    order = np.argsort(user, kind="stable")
    repeated = np.zeros(len(user), bool)
    repeated[order[1:]] = (np.diff(user[order]) == 0) & (np.diff(setting[order]) == 0)
    return repeated


def linear_worth(total: Floats, facets: Ints, num_facets: int) -> Floats:
    """The part of `total` (rows,) that is linear in the facets (rows, facets_per_item) of the rows' items: its least squares fit."""
    together, sums = np.zeros((num_facets, num_facets)), np.zeros(num_facets)
    for own in facets.T:
        sums += np.bincount(own, total, num_facets)
        for other in facets.T:
            together += np.bincount(own * num_facets + other, minlength=num_facets**2).reshape(together.shape)
    fitted: Floats = (np.linalg.pinv(together) @ sums)[facets].sum(axis=1)
    return fitted


def rules_of(tastes: Tastes, logic: Ints, setting: Ints, repeats: Bools) -> Rules:
    """The rules by which rows of these dominant logics and settings are decided."""
    turning = tastes.turns[logic, setting]
    return Rules(turning & ~repeats, turning & repeats)


def state_rule(tastes: Sequence[tuple[str, bool]], setting: str, turned: bool, repeated: bool) -> str:
    """The rule in words, `tastes` being (facet, whether it speaks for a like here), the one that decided first; no setting, no word of it.

    "heist is liked with satire, noir is disliked." where the setting turned them; "heist is disliked, noir is liked, satire again." where
    it would have but is no news; else "heist is disliked, noir is liked, satire or not."
    """
    first, *others = (f"{facet} is {'liked' if liked else 'disliked'}" for facet, liked in tastes)
    ending = [] if turned or not setting else [f"{setting} {'again' if repeated else 'or not'}"]
    return f"{', '.join([f'{first} with {setting}' if turned else first, *others, *ending])}."
