"""Users with their histories as what is asked about: those of a log, those sent along, those that nobody has heard of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from thinkrec.artefacts.ingest import TEST
from thinkrec.data.interactions import Interactions

Ints = NDArray[np.integer]
Event = tuple[int, int, int]  # item as an index, label, milliseconds UTC
COLUMNS = ("item", "label", "ts", "row", "split")


def of_users(log: Interactions, user_ids: Sequence[str], until_test: bool = False) -> Interactions:
    """These users in this order, with their rows of `log`; a user who has none stands there without rows.

    until_test: without the rows of test, as the users were before it.
    """
    at = {user: place for place, user in enumerate(log.user_ids)}
    rows = [_rows(log, at.get(user), until_test) for user in user_ids]
    source = np.concatenate([np.empty(0, np.int64), *rows])
    columns = {name: getattr(log, name)[source] for name in COLUMNS}
    return _interactions(log, list(user_ids), np.array([len(own) for own in rows], np.int64), columns)


def part(log: Interactions, first: int, num: int) -> Interactions:
    """At most `num` users from place `first` on. By their places: requests without a user_id all have one id, and each its own history."""
    offsets = log.offsets[first : first + num + 1]
    columns = {name: getattr(log, name)[offsets[0] : offsets[-1]] for name in COLUMNS}
    return _interactions(log, log.user_ids[first : first + num], np.diff(offsets), columns)


def sent_along(catalogue: Interactions, user_ids: Sequence[str], histories: Sequence[Sequence[Event]]) -> Interactions:
    """Users with the histories that came with a question, in any order; `catalogue` says which items there are."""
    events = [event for own in histories for event in sorted(own, key=lambda event: event[2])]  # stable: ties stay as they came
    item, label, ts = np.array(events, np.int64).reshape(-1, 3).T
    columns = {"item": item, "label": label, "ts": ts, "row": np.arange(len(events)), "split": np.zeros(len(events), np.int64)}
    return _interactions(catalogue, list(user_ids), np.array([len(own) for own in histories], np.int64), columns)


def together(logs: Sequence[Interactions]) -> Interactions:
    """The users of several logs of one catalogue, one log after another; at least one log."""
    return _interactions(
        logs[0],
        [user for log in logs for user in log.user_ids],
        np.concatenate([np.diff(log.offsets) for log in logs]),
        {name: np.concatenate([getattr(log, name) for log in logs]) for name in COLUMNS},
    )


def asking(log: Interactions, candidates: Sequence[Ints]) -> tuple[Interactions, Ints]:
    """Each user's rows and behind them one row a candidate, of row number -1, which no history shows; and where the candidates begin.

    A candidate's row has the time of the user's last row, 0 without one.
    """
    sizes, asked = np.diff(log.offsets), np.array([len(items) for items in candidates], np.int64)
    begin = log.offsets[1:] + np.cumsum(asked) - asked
    is_asked = np.ones(len(log) + asked.sum(), bool)
    is_asked[np.arange(len(log)) + np.repeat(begin - log.offsets[1:], sizes)] = False
    last = np.where(sizes > 0, np.append(log.ts, 0)[log.offsets[1:] - 1], 0)
    new = {"item": np.concatenate([np.empty(0, np.int64), *candidates]), "label": 0, "ts": np.repeat(last, asked), "row": -1, "split": TEST}
    columns = {}
    for name, values in new.items():
        columns[name] = np.empty(len(is_asked), getattr(log, name).dtype)
        columns[name][~is_asked], columns[name][is_asked] = getattr(log, name), values
    return _interactions(log, log.user_ids, sizes + asked, columns), begin


def _rows(log: Interactions, user: int | None, until_test: bool) -> Ints:
    rows = np.empty(0, np.int64) if user is None else np.arange(log.offsets[user], log.offsets[user + 1])
    return rows[log.split[rows] != TEST] if until_test else rows


def _interactions(log: Interactions, user_ids: list[str], sizes: Ints, columns: Mapping[str, Ints]) -> Interactions:
    return Interactions(
        user=np.repeat(np.arange(len(user_ids), dtype=np.int32), sizes),
        item=columns["item"].astype(np.int32),
        label=columns["label"].astype(np.int8),
        ts=columns["ts"].astype(np.int64),
        row=columns["row"].astype(np.int64),
        split=columns["split"].astype(np.int8),
        offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        user_ids=user_ids,
        item_ids=log.item_ids,
        item_in_train=log.item_in_train,
    )
