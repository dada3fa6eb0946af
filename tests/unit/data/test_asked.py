"""The log seen by questions: what a user did before each, and the row asked about behind it."""

from __future__ import annotations

import numpy as np
import pytest

from thinkrec.artefacts.ingest import TEST, TRAIN
from thinkrec.data.interactions import Interactions


@pytest.fixture
def log() -> Interactions:
    """a met items 0 1 0 2, b met 1 3."""
    return Interactions(
        user=np.array([0, 0, 0, 0, 1, 1], np.int32),
        item=np.array([0, 1, 0, 2, 1, 3], np.int32),
        label=np.array([1, 0, 1, 1, 0, 1], np.int8),
        ts=np.arange(6) * 10,
        row=np.arange(6) + 100,
        split=np.array([TRAIN] * 3 + [TEST] + [TRAIN, TEST], np.int8),
        offsets=np.array([0, 4, 6]),
        user_ids=["a", "b"],
        item_ids=["w", "x", "y", "z"],
        item_in_train=np.array([True, True, False, False]),
    )


@pytest.mark.parametrize(
    ("user", "item", "items", "row"),
    [
        (0, 2, [0, 1, 0, 2], 103),
        (0, 0, [0, 1, 0], 102),  # the last of two
        (1, 1, [1], 104),
        (0, 3, [0, 1, 0, 2, 3], -1),  # a new one, after all of the user's
        (1, 0, [1, 3, 0], -1),
    ],
)
def test_each_question_has_its_own_history(log, user, item, items, row):
    asked = log.asked(np.array([1, user, 0]), np.array([3, item, 1]))
    mine = slice(*asked.offsets[1:3])
    assert asked.item[mine].tolist() == items
    assert asked.row[mine][-1] == row
    assert set(asked.user[mine]) == {1}
    assert asked.user_ids == ["b", log.user_ids[user], "a"]
    at = int(asked.offsets[2]) - 1
    assert asked.item[asked.history(at, 10, "rolling")].tolist() == items[:-1]
    if row == -1:
        assert (asked.label[at], asked.split[at]) == (0, TEST)
        assert asked.ts[at] >= log.ts[log.offsets[user + 1] - 1]
    assert (len(log), log.item.tolist()) == (6, [0, 1, 0, 2, 1, 3])  # as it was


def test_no_question(log):
    asked = log.asked(np.empty(0, np.int64), np.empty(0, np.int64))
    assert (len(asked), asked.user_ids, asked.offsets.tolist()) == (0, [], [0])
