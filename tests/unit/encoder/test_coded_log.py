"""The log as encoders see it: train's vocabulary, no time travel."""

from __future__ import annotations

import numpy as np
import pytest

from thinkrec.artefacts.ingest import TEST, TRAIN, VALID
from thinkrec.encoder.coded_log import Log, windows


@pytest.fixture
def loaded(ingest):
    return Log.load(ingest)


def test_only_train_is_known_and_splits_keep_the_order_of_the_data_set(loaded):
    train, valid, test = (loaded.ratings(loaded.positions(split)) for split in (TRAIN, VALID, TEST))
    assert (loaded.user_ids, loaded.item_ids) == (["u1", "u2"], ["i1", "i2"])
    assert [train.user.tolist(), train.item.tolist(), train.label.tolist()] == [[1, 0, 0], [0, 1, 0], [1, 0, 1]]
    assert [valid.user.tolist(), valid.item.tolist(), valid.label.tolist()] == [[-1, 0], [0, -1], [0, 1]]
    assert [test.user.tolist(), test.item.tolist(), test.label.tolist()] == [[-1], [-1], [1]]


@pytest.mark.parametrize("length", [1, 3, 50])
@pytest.mark.parametrize(("policy", "last"), [("rolling", TEST), ("rolling", VALID), ("train_only", TEST)])
def test_windows_are_the_naive_loop(log, length, policy, last):
    mixed = np.random.default_rng(0).permutation(log.split)  # splits that follow no cut
    allowed = [split for split in (TRAIN, VALID, TEST) if split == TRAIN or (policy == "rolling" and split <= last)]
    visible = Log(log.user, log.item, log.label, mixed, log.row, log.first, log.user_ids, log.item_ids).visible(policy, last)
    ends = np.random.default_rng(1).integers(0, len(log.user), 200)
    for end, window in zip(ends, windows(visible, log.first[ends], ends, length), strict=True):
        expected = [at for at in range(log.first[end], end) if mixed[at] in allowed][-length:]
        assert window.tolist() == expected + [-1] * (length - len(expected))
