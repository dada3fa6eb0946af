from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from thinkrec.config.generation import TracesSection
from thinkrec.data.interactions import Interactions
from thinkrec.generate.traces import sampling

NUM_USERS, ROWS_PER_USER, NUM_ITEMS = 40, 12, 30


@pytest.fixture
def data() -> Interactions:
    """Half the items are loved and half are loathed, and one row in five says the contrary; the last two rows of a user are test rows."""
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(NUM_USERS, dtype=np.int32), ROWS_PER_USER)
    item = np.concatenate([rng.permutation(NUM_ITEMS)[:ROWS_PER_USER] for _ in range(NUM_USERS)]).astype(np.int32)
    contrary = rng.random(len(user)) < 0.2
    place = np.tile(np.arange(ROWS_PER_USER), NUM_USERS)
    return Interactions(
        user=user,
        item=item,
        label=((item < NUM_ITEMS // 2) ^ contrary).astype(np.int8),
        ts=place.astype(np.int64),
        row=np.arange(len(user), dtype=np.int64) * 7,
        split=np.where(place < ROWS_PER_USER - 2, 0, 2).astype(np.int8),
        offsets=np.arange(NUM_USERS + 1, dtype=np.int64) * ROWS_PER_USER,
        user_ids=[f"u{n:02d}" for n in range(NUM_USERS)],
        item_ids=[f"i{n}" for n in range(NUM_ITEMS)],
        item_in_train=np.ones(NUM_ITEMS, bool),
    )


CLUSTERS = np.repeat(np.array([0, 1], np.int16), [30, 10])


def chosen(data, seed=3, **settings):
    section = TracesSection(**{"num_instances": 60, "hard_share": 0.0, **settings})
    return sampling.choose(data, sampling.askable(data), CLUSTERS, "rolling", section, seed)


def test_only_train_rows_with_a_past_are_asked_about(data):
    found = sampling.askable(data)
    assert len(found) == NUM_USERS * (ROWS_PER_USER - 3)
    assert set(found % ROWS_PER_USER) == set(range(1, ROWS_PER_USER - 2))


def test_clusters_and_labels_have_equal_parts(data):
    picked = chosen(data)
    cluster = (data.user[picked] >= 30).astype(int)
    assert np.bincount(2 * cluster + data.label[picked]).tolist() == [15, 15, 15, 15]
    assert len(set(picked.tolist())) == 60
    assert chosen(data, seed=4).tolist() != picked.tolist()


def test_the_share_of_train_is_a_bound(data):
    assert len(chosen(data, num_instances=10**6)) == len(sampling.askable(data))
    assert len(chosen(data, max_share=0.1)) == NUM_USERS * (ROWS_PER_USER - 2) // 10


def test_hard_rows_are_those_that_counting_gets_wrong(data):
    hard = sampling.is_hard(data, "rolling")
    contrary = data.label != (data.item < NUM_ITEMS // 2)
    assert hard[contrary].mean() > 0.8
    assert hard[~contrary].mean() < 0.2
    same = replace(data, label=np.ones_like(data.label))
    assert not sampling.is_hard(same, "rolling").any()  # one class: there is nothing to be wrong about


def test_hard_rows_come_first_as_far_as_asked(data):
    hard = sampling.is_hard(data, "rolling")
    shares = [hard[chosen(data, hard_share=share)].mean() for share in (0.0, 0.5, 1.0)]
    assert shares[0] == pytest.approx(hard[sampling.askable(data)].mean(), abs=0.12)
    assert shares[0] + 0.2 < shares[1] < shares[2] - 0.1
    assert shares[2] > 0.85  # one cell has too few of them


def test_a_grown_log_keeps_its_order_and_its_teachers(data):
    rows = data.row[chosen(data)]
    later = replace(data, row=np.where(data.user < 35, data.row, data.row + 10**6))  # five users are others now
    kept = data.row[chosen(later, num_instances=10**6)]
    assert [row for row in kept if row in set(rows[:30].tolist())]
    few, all_rows = data.row[:50], data.row
    teachers = sampling.share_out(all_rows, [1.0, 3.0], 5)
    assert sampling.share_out(few, [1.0, 3.0], 5).tolist() == teachers[:50].tolist()
    assert teachers.mean() == pytest.approx(0.75, abs=0.08)
    assert set(sampling.share_out(all_rows, [2.0], 5)) == {0}
