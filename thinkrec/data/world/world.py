"""The planted world: interactions whose reasons are known (docs/design.md 13).

Items carry facets. A taste logic is a vector over facets, in the world of rules with exceptions to it (tastes.py); logics conflict on half
of the facets and are independent on the rest. A user follows one logic, or a mixture of two. Whether a row is a like is a coin with a known
bias, so the best possible AUC is known, the best of a judge for whom every facet adds, and the reason of every row. Titles and ids say
nothing; facets stand in the description among words that do not matter.

NumPy only: the same settings and seed give the same tables, byte for byte once written.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from thinkrec.artefacts.ingest import ITEMS, TRUTH
from thinkrec.config.data import WorldSection
from thinkrec.data.world.tastes import (
    Rules,
    Tastes,
    draw_facets,
    draw_tastes,
    has_settings,
    linear_worth,
    num_settings,
    row_worths,
    rules_of,
    set_again,
    state_rule,
)
from thinkrec.data.world.texts import FACETS, describe, make_titles
from thinkrec.errors import ConfigError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

START_S = 1_672_531_200  # 2023-01-01 UTC
SPAN_S = 400 * 86_400
SESSION_ROWS = 6.0  # mean rows of a burst
GAP_S = 60.0  # mean pause within a burst
LAUNCH_SHARE = 0.86  # rows before the first cold item or user; just beyond the default test quantile
LAUNCH_BOOST = 3.0  # how much more often a cold item is met than a warm one of equal popularity
POPULARITY_POWER = 0.7
QUALITY_SCALE = 0.3
BIAS_SCALE = 0.3
RATINGS = (1.0, 5.0)  # of a dislike and a like


@dataclass(frozen=True)
class World:
    """interactions (user_id, item_id, ts, rating) in order of time; items as ITEMS; truth as TRUTH, `row` counts the interactions."""

    interactions: pa.Table
    items: pa.Table
    truth: pa.Table


@dataclass(frozen=True)
class Log:
    """Who met what when: aligned columns in order of time; ts in milliseconds."""

    user: Ints
    item: Ints
    ts: Ints


@dataclass(frozen=True)
class Causes:
    """Of each row: what every facet of its item adds to the log-odds of a like, what a judge for whom facets only add makes of them, and
    whether the item's last facet was also that of the user's row before.
    """

    shares: Floats  # (rows, facets_per_item)
    linear: Floats  # (rows,)
    repeats: NDArray[np.bool_]

    @property
    def total(self) -> Floats:
        """(rows,) log-odds that the facets add."""
        return np.asarray(self.shares.sum(axis=1))


def make_world(settings: WorldSection, seed: int) -> World:
    """Draw items, logics, users, meetings and labels; raises ConfigError for settings no world can have."""
    _check(settings)
    # One stream a part: the shuffled control then keeps every label, and more users keep the same items.
    for_items, for_tastes, for_users, for_log, for_labels, for_texts, for_control = (
        np.random.default_rng([seed, part]) for part in range(7)
    )
    facets = draw_facets(settings, for_items)
    tastes = draw_tastes(settings, facets, for_tastes)
    weights = draw_weights(settings, for_users)
    log = draw_log(settings, for_log)
    quality = for_labels.normal(0, QUALITY_SCALE, settings.num_items)
    bias = for_labels.normal(0, BIAS_SCALE, settings.num_users)
    cause = find_causes(settings, tastes, facets[log.item], weights[log.user], log.user)
    p_like, p_linear = (_coin(worth + (quality[log.item] + bias[log.user]), settings.label_flip) for worth in (cause.total, cause.linear))
    label = for_labels.random(len(p_like)) < p_like

    return World(
        interactions=pa.table(
            {
                "user_id": _names("u", settings.num_users).take(pa.array(log.user)),
                "item_id": _names("i", settings.num_items).take(pa.array(log.item)),
                "ts": log.ts,
                "rating": np.array(RATINGS, np.float32)[label.astype(int)],
            }
        ),
        items=_items(settings, facets, for_texts, for_control),
        truth=_truth(tastes, cause, facets[log.item], weights[log.user], p_like, p_linear),
    )


def find_causes(settings: WorldSection, tastes: Tastes, facets: Ints, weights: Floats, user: Ints) -> Causes:
    """What decides each row; `facets` (rows, facets_per_item) and `weights` (rows, num_logics) of the rows' items and users."""
    repeats = set_again(user, facets[:, -1])
    shares, linear = np.zeros(facets.shape), np.zeros(len(facets))
    for weight, worth in zip(weights.T, row_worths(tastes, facets, repeats), strict=True):
        shares += weight[:, None] * worth
        linear += weight * linear_worth(worth.sum(axis=1), facets, settings.num_facets)
    return Causes(settings.taste_scale * shares, settings.taste_scale * linear, repeats)


def draw_weights(settings: WorldSection, rng: np.random.Generator) -> Floats:
    """(num_users, num_logics) weights that sum to 1: one logic, or for the mixed share two with .3 to .7 each."""
    weights = np.zeros((settings.num_users, settings.num_logics))
    order = rng.permuted(np.tile(np.arange(settings.num_logics), (settings.num_users, 1)), axis=1)
    mixed = rng.random(settings.num_users) < settings.mixed_share
    first = np.where(mixed, rng.uniform(0.3, 0.7, settings.num_users), 1.0)
    everyone = np.arange(settings.num_users)
    weights[everyone, order[:, -1]] = 1 - first
    weights[everyone, order[:, 0]] += first  # with one logic both are the same
    return weights


def draw_log(settings: WorldSection, rng: np.random.Generator) -> Log:
    """Meetings in bursts, popular items more often, no pair twice, cold items and users only after the launch."""
    cold_item = _random_mask(settings.num_items, settings.cold_item_share, rng)
    cold_user = _random_mask(settings.num_users, settings.cold_user_share, rng)
    num_rows = np.clip(rng.gamma(4, settings.interactions_per_user / 4, settings.num_users).round(), 1, (~cold_item).sum()).astype(int)
    user = np.repeat(np.arange(settings.num_users), num_rows)
    seconds, launch = _draw_times(user, cold_user[user], rng)
    order = np.lexsort((seconds, user))
    user, seconds = user[order], seconds[order]

    log_popularity = -POPULARITY_POWER * np.log(rng.permutation(settings.num_items) + 10)
    num_early = np.bincount(user[seconds < launch], minlength=settings.num_users)
    item = np.concatenate(
        [_draw_items(log_popularity, cold_item, early, total - early, rng) for early, total in zip(num_early, num_rows, strict=True)]
    )
    by_time = np.lexsort((user, seconds))
    return Log(user[by_time], item[by_time], ((START_S + seconds[by_time]) * 1000).astype(np.int64))


def _draw_times(user: Ints, cold: NDArray[np.bool_], rng: np.random.Generator) -> tuple[Floats, float]:
    """Seconds since the start for each row (rows of one user stand together), and when the cold ones begin."""
    begins = (rng.random(len(user)) < 1 / SESSION_ROWS) | (np.diff(user, prepend=-1) != 0)
    session = np.cumsum(begins) - 1
    start = rng.random(session[-1] + 1)[session]
    elapsed = np.cumsum(1 + rng.exponential(GAP_S, len(user)))
    within = elapsed - elapsed[begins][session]
    warm = np.sort(start[~cold] * SPAN_S + within[~cold])
    num_before = int(np.ceil(LAUNCH_SHARE * len(user)))
    if num_before >= len(warm):
        raise ConfigError(
            f"{cold.sum()} of {len(user)} rows belong to cold users: they do not fit behind the test cut",
            "data.world.cold_user_share",
            "0.1 is a good upper limit",
        )
    launch = float(warm[num_before])
    return np.where(cold, launch + start * (SPAN_S - launch), start * SPAN_S) + within, launch


def _draw_items(log_popularity: Floats, cold: NDArray[np.bool_], num_early: int, num_late: int, rng: np.random.Generator) -> Ints:
    """Items of one user in order of time, none twice (largest Gumbel keys = draws without replacement)."""
    keys = np.where(cold, -np.inf, log_popularity + rng.gumbel(size=len(cold)))
    early = np.argsort(-keys)[:num_early]
    keys = log_popularity + rng.gumbel(size=len(cold)) + np.log(LAUNCH_BOOST) * cold
    keys[early] = -np.inf
    return np.concatenate([early, np.argsort(-keys)[:num_late]])


def _items(settings: WorldSection, facets: Ints, rng: np.random.Generator, for_control: np.random.Generator) -> pa.Table:
    titles = make_titles(settings.num_items, rng)
    words = [[FACETS[facet] for facet in row] for row in facets]
    texts = [describe(row, rng) for row in words]
    annotated = _random_mask(settings.num_items, settings.annotated_share, rng)
    last = 1 if num_settings(settings) else 0  # an editor names the setting last
    categories = [
        [*sorted(row[: len(row) - last]), *row[len(row) - last :]] if known else None for row, known in zip(words, annotated, strict=True)
    ]
    source = for_control.permutation(settings.num_items) if settings.keywords == "shuffled" else np.arange(settings.num_items)
    columns = [_names("i", settings.num_items), titles, [texts[item] for item in source], [categories[item] for item in source]]
    return pa.table(columns, schema=ITEMS)


def _coin(log_odds: Floats, flip: float) -> Floats:
    """The chance of a like."""
    p_like = 1 / (1 + np.exp(-log_odds))
    return np.asarray((1 - 2 * flip) * p_like + flip)


def _truth(tastes: Tastes, cause: Causes, facets: Ints, weights: Floats, p_like: Floats, p_linear: Floats) -> pa.Table:
    """TRUTH; `facets` (rows, facets_per_item) and `weights` (rows, num_logics) as in find_causes."""
    logic = weights.argmax(axis=1)
    ruled = rules_of(tastes, logic, facets[:, -1], cause.repeats)
    leading = np.where(p_like >= 0.5, 1, -1)[:, None] * cause.shares
    if has_settings(tastes):  # what turned the others goes with the strongest of them
        leading[:, -1] = np.where(ruled.turned, np.sort(leading[:, :-1], axis=1)[:, -1], -np.inf)
    strongest = np.argsort(-leading, axis=1, kind="stable")
    reason = np.take_along_axis(facets, strongest, axis=1)
    speaks_for = np.take_along_axis(cause.shares > 0, strongest, axis=1)
    columns = [
        np.arange(len(p_like)),
        p_like.astype(np.float32),
        logic.astype(np.int8),
        (weights > 0).sum(axis=1) > 1,
        _words(reason.ravel(), np.arange(0, reason.size + 1, reason.shape[1])),
        p_linear.astype(np.float32),
        _words(reason[_first(reason, 1 + ruled.turned)], np.cumsum([0, *(1 + ruled.turned)])),
        _stated(reason, speaks_for, facets[:, -1] if has_settings(tastes) else None, ruled),
    ]
    return pa.table([pa.array(column) for column in columns], schema=TRUTH)


def _stated(reason: Ints, speaks_for: NDArray[np.bool_], setting: Ints | None, ruled: Rules) -> list[str]:
    """The rule of each row in words; `reason` and `speaks_for` (rows, facets_per_item), the strongest first; `setting` None without any."""
    traces = []
    for at, (facets, sides) in enumerate(zip(reason.tolist(), speaks_for.tolist(), strict=True)):
        own = -1 if setting is None else int(setting[at])
        tastes = [(FACETS[facet], side) for facet, side in zip(facets, sides, strict=True) if facet != own]
        traces.append(state_rule(tastes, "" if setting is None else FACETS[own], bool(ruled.turned[at]), bool(ruled.repeated[at])))
    return traces


def _first(table: Ints, counts: Ints) -> NDArray[np.bool_]:
    """The mask of the first `counts` of each row."""
    return np.asarray(np.arange(table.shape[1]) < counts[:, None])


def _words(facets: Ints, offsets: Ints) -> pa.Array:
    """Names of facets as lists that begin at `offsets`."""
    return pa.ListArray.from_arrays(offsets.astype(np.int32), pa.array(FACETS).take(pa.array(facets)))


def _names(prefix: str, count: int) -> pa.Array:
    width = len(str(count - 1))
    return pa.array([f"{prefix}{number:0{width}d}" for number in range(count)])


def _random_mask(count: int, share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Exactly round(share * count) of `count` are True."""
    return rng.permutation(count) < round(share * count)


def _check(settings: WorldSection) -> None:
    if settings.num_facets > len(FACETS):
        raise ConfigError(f"{settings.num_facets} facets asked for, {len(FACETS)} have names", "data.world.num_facets", "ask for fewer")
    if settings.taste == "rules" and num_settings(settings) < 2:
        raise ConfigError(
            f"of {settings.num_facets} facets none is a setting that turns tastes", "data.world.num_facets", "ask for 5 or more"
        )
    if settings.taste == "rules" and settings.facets_per_item < 2:
        raise ConfigError("an item of one facet has no setting", "data.world.facets_per_item", 'name at least 2 for taste = "rules"')
    most = settings.num_facets - max(0, num_settings(settings) - 1)  # with a setting, an item has all others
    if settings.facets_per_item >= most:
        raise ConfigError("every item would have every facet", "data.world.facets_per_item", f"name fewer than {most}")
    num_warm = settings.num_items - round(settings.cold_item_share * settings.num_items)
    if 2 * settings.interactions_per_user > num_warm:
        raise ConfigError(
            f"{settings.interactions_per_user} rows a user out of {num_warm} warm items, and none is met twice",
            "data.world.interactions_per_user",
            f"ask for at most {num_warm // 2}, or raise data.world.num_items",
        )
