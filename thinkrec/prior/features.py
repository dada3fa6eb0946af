"""The columns that the prior's logistic regression weighs: the item, the user's level, his tastes about this item, and where he stands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from thinkrec.prior.items import TASTES, Items, logit
from thinkrec.prior.posterior import DAY_S, States, Variances, user_states
from thinkrec.prior.windows import SESSION_S, Histories, Queries, distinct

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]
Number = TypeVar("Number", bound=np.number)

MAX_QUERIES = 2**15  # described at a time
LONGEST_GAP_S = 1e7
FEW_ROWS = 10  # a history below this is short
MIDDLES = {"rows": 3.5, "session": 2.5}  # of the logarithms that levels are multiplied by
LEVELS = ("constant", "fast", "slow")
CONTRASTS = (*TASTES, "mood")
CONTEXT = ("rows", "session", "gap", "same_second", "days")
RECENT_ROWS = 10
MEANS = ("recent", "past")  # of (label - rate) over the last RECENT_ROWS rows and over all rows
MEAN_ROWS = (3.0, 5.0)  # pseudo rows of residual 0 in each
MULTIPLIED = ("level", "session_level", "item", "contrast", *MEANS)
BY = ("rows", "few_rows", "session")
NAMES = (
    *("item", "promised", "count", "year"),
    *CONTEXT,
    *LEVELS,
    *(f"session_{name}" for name in LEVELS),
    *(f"contrast_{name}" for name in CONTRASTS),
    *("last", *MEANS),
    *(f"{name}*{by}" for name in MULTIPLIED for by in BY),
)


@dataclass(frozen=True)
class Features:
    """`columns` (queries, len(NAMES)), and the three sums that a reader wants to see."""

    columns: Floats
    level: Floats  # how much more the user likes than his items promise, in shares of likes
    contrast: Floats  # how much more he likes this item than the average item, beyond its quality
    quality: Floats  # log-odds of the item's like-rate


def describe_in_parts(
    histories: Histories, queries: Queries, items: Items, variances: Variances, max_history: int
) -> Iterator[tuple[Queries, Features]]:
    """`describe` for so many queries at a time that memory stays flat."""
    for start in range(0, len(queries), MAX_QUERIES):
        part = queries.take(slice(start, start + MAX_QUERIES))
        yield part, describe(histories, part, items, variances, max_history)


def describe(histories: Histories, queries: Queries, items: Items, variances: Variances, max_history: int) -> Features:
    """What is known of each query before its label."""
    if len(queries):  # only the histories that are asked for
        first = int(queries.history.min())
        histories = histories.between(first, int(queries.history.max()) + 1)
        queries = replace(queries, history=queries.history - first)
    fold = histories.fold[queries.history]
    begin = session_begin(histories, queries)
    history, seen, moment = distinct(np.tile(queries.history, 2), np.concatenate([queries.seen, begin]))
    now, before = np.split(moment, 2)
    states = user_states(histories, history, seen, items, variances, max_history)

    levels = _levels(states, now, queries.seen, histories, queries, variances)
    session_levels = _levels(states, before, begin, histories, queries, variances)
    contrasts = _contrasts(states, now, items, fold, queries.item)
    item = logit(items.rate[fold, queries.item].astype(np.float64))
    promised = logit(items.promised[fold, queries.item].astype(np.float64))
    count = np.log1p(items.num_rows[fold, queries.item].astype(np.float64))
    year = items.year[queries.item].astype(np.float64)
    context = _context(histories, queries, begin)

    last, means = _past(histories, queries, items)
    level, contrast = levels.sum(1), contrasts.sum(1)
    rows, session = context[:, 0], context[:, 1]
    by = np.stack([rows - MIDDLES["rows"], queries.seen < FEW_ROWS, session - MIDDLES["session"]], axis=1)
    multiplied = np.column_stack([level, session_levels.sum(1), item, contrast, means])
    products = (multiplied[:, :, None] * by[:, None]).reshape(len(queries), -1)
    columns = np.column_stack([item, promised, count, year, context, levels, session_levels, contrasts, last, means, products])
    return Features(columns, level, contrast, item)


def session_begin(histories: Histories, queries: Queries) -> Ints:
    """How many rows each query's history had when the query's session began."""
    last = histories.offsets[queries.history] + queries.seen - 1
    gap = queries.seconds - _at(histories.seconds, last)
    return np.where((queries.seen > 0) & (gap <= SESSION_S), _at(histories.session, last), queries.seen)


def _levels(states: States, at: Ints, seen: Ints, histories: Histories, queries: Queries, variances: Variances) -> Floats:
    """(queries, 3): the user's level by what he had done after `seen` rows, as it is expected at the query."""
    last = histories.offsets[queries.history] + seen - 1
    days = np.maximum(0, queries.seconds - _at(histories.seconds, last)) / DAY_S
    rows = queries.seen - seen
    fast, slow = states.fast[at] * np.exp(-rows / variances.rows), states.slow[at] * np.exp(-days / variances.days)
    return np.stack([states.constant[at], fast, slow], axis=1)


def _contrasts(states: States, at: Ints, items: Items, fold: Ints, item: Ints) -> Floats:
    """(queries, len(CONTRASTS)): what each taste adds for this item; the average item's is 0."""
    traits = items.traits(fold, item)
    blocks = np.split(traits * states.tastes[at], np.cumsum(items.widths)[:-1], axis=1)
    mood = traits[:, : items.widths[0]] * states.mood[at]
    return np.stack([block.sum(1) for block in (*blocks, mood)], axis=1)


def _past(histories: Histories, queries: Queries, items: Items) -> tuple[Floats, Floats]:
    """The label of the last row as 1 or -1, 0 without one, (queries,), and MEANS (queries, 2)."""
    fold = np.repeat(histories.fold, np.diff(histories.offsets))
    residual = histories.label - items.rate[fold, histories.item].astype(np.float64)
    total = np.concatenate([[0.0], np.cumsum(residual)])
    first = histories.offsets[queries.history]
    end = first + queries.seen
    begins = (np.maximum(first, end - RECENT_ROWS), first)
    means = [(total[end] - total[begin]) / (end - begin + rows) for begin, rows in zip(begins, MEAN_ROWS, strict=True)]
    last = np.where(queries.seen > 0, 2.0 * _at(histories.label, end - 1) - 1.0, 0.0)
    return last, np.stack(means, axis=1)


def _context(histories: Histories, queries: Queries, begin: Ints) -> Floats:
    """(queries, len(CONTEXT)): logarithms of rows so far, of rows of the session, of the pause, whether there was none, and of days."""
    first = histories.offsets[queries.history]
    has_past = queries.seen > 0
    gap = np.where(has_past, queries.seconds - _at(histories.seconds, first + queries.seen - 1), LONGEST_GAP_S)
    days = np.where(has_past, queries.seconds - _at(histories.seconds, first), 0.0) / DAY_S
    gap, days = np.clip(gap, 0, LONGEST_GAP_S), np.maximum(0, days)
    columns = (np.log1p(queries.seen), np.log1p(queries.seen - begin), np.log1p(gap), gap == 0, np.log1p(days))
    return np.stack(columns, axis=1).astype(np.float64)


def _at(column: NDArray[Number], place: Ints) -> NDArray[Number]:
    """`column[place]`, and anything at all where there is no such place."""
    return np.asarray(column[np.clip(place, 0, len(column) - 1)] if len(column) else np.zeros(len(place), column.dtype))
