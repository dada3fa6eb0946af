"""Histories as slices equal the naive loop over rows."""

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ingested import write_log

from thinkrec.artefacts.ingest import SPLITS, bucket_of
from thinkrec.data.interactions import Interactions

NUM_BUCKETS = 4


def random_rows() -> pl.DataFrame:
    """Rows of 23 users in any order, with many ties of time, and splits that follow no cut."""
    rng = np.random.default_rng(0)
    n = 400
    return pl.DataFrame(
        {
            "user_id": [f"u{number}" for number in rng.integers(0, 23, n)],
            "item_id": [f"i{number}" for number in rng.integers(0, 30, n)],
            "ts": rng.integers(0, 40, n),
            "rating": pl.Series([None] * n, dtype=pl.Float32),
            "label": rng.integers(0, 2, n).astype(np.int8),
            "split": rng.choice(SPLITS, n, p=[0.3, 0.3, 0.4]),
            "row": rng.permutation(n),
        }
    )


@pytest.fixture(scope="module")
def rows() -> pl.DataFrame:
    return random_rows()


@pytest.fixture(scope="module")
def folder(rows, tmp_path_factory) -> Path:
    """An ingest artefact of these rows, without Ray."""
    folder = tmp_path_factory.mktemp("ingest")
    write_log(folder, rows, NUM_BUCKETS)
    pq.write_table(pa.table({"item_id": [f"i{number}" for number in range(29, -1, -1)]}), folder / "items.parquet")
    return folder


@pytest.fixture(scope="module")
def loaded(folder) -> Interactions:
    return Interactions.load(folder)


def readable(data: Interactions) -> list[tuple[str, int, int, str, int, str]]:
    columns = (data.user, data.ts, data.row, data.item, data.label, data.split)
    return [
        (data.user_ids[u], t, r, data.item_ids[i], y, SPLITS[s])
        for u, t, r, i, y, s in zip(*(column.tolist() for column in columns), strict=True)
    ]


def test_all_rows_are_there_in_order_of_user_time_and_row(rows, loaded):
    assert readable(loaded) == sorted(rows.select("user_id", "ts", "row", "item_id", "label", "split").rows())
    assert loaded.user_ids == sorted(set(rows["user_id"]))
    assert loaded.item_ids[0] == "i29"
    assert len(loaded) == 400


def test_offsets_part_the_users(loaded):
    for user in range(len(loaded.user_ids)):
        start, stop = loaded.offsets[user : user + 2]
        assert set(loaded.user[start:stop]) == {user}
    assert loaded.offsets[-1] == len(loaded)


@pytest.mark.parametrize("length", [0, 1, 5, 1000])
@pytest.mark.parametrize("policy", ["rolling", "train_only"])
@pytest.mark.parametrize("dislikes", [True, False], ids=["all marks", "likes alone"])
def test_a_history_is_what_a_loop_over_all_rows_finds(loaded, length, policy, dislikes):
    log = readable(loaded)
    for position in range(0, len(log), 3):
        user, time, row, *_ = log[position]
        earlier = [n for n, other in enumerate(log) if other[0] == user and (other[1], other[2]) < (time, row)]
        if policy == "train_only":
            earlier = [n for n in earlier if log[n][5] == "train"]
        if not dislikes:
            earlier = [n for n in earlier if log[n][4] == 1]
        expected = earlier[len(earlier) - min(length, len(earlier)) :]
        assert np.arange(len(log))[loaded.history(position, length, policy, dislikes)].tolist() == expected


@pytest.mark.parametrize("num_targets", [1, 3, 1000])
def test_train_rows_share_the_history_before_the_first_of_them(loaded, num_targets):
    end, seen = loaded.snapshots(num_targets), dict[int, list[int]]()
    for position, user in enumerate(loaded.user.tolist()):
        if SPLITS[loaded.split[position]] != "train":
            assert end[position] == position
            continue
        mine = seen.setdefault(user, [])
        mine.append(position)
        assert end[position] == mine[(len(mine) - 1) // num_targets * num_targets]


def test_some_users_or_some_buckets_load_as_a_part_of_the_whole(folder, loaded):
    users = ["u3", "u7", "u11", "nobody"]
    part = Interactions.load(folder, users=users)
    assert readable(part) == [row for row in readable(loaded) if row[0] in users]
    assert part.user_ids == ["u11", "u3", "u7"]
    bucket = Interactions.load(folder, buckets={1})
    assert readable(bucket) == [row for row in readable(loaded) if bucket_of(row[0], NUM_BUCKETS) == 1]
    assert 0 < len(bucket) < len(loaded)


def test_nobody_is_an_empty_part(folder):
    nobody = Interactions.load(folder, users=[])
    assert (len(nobody), nobody.user_ids, nobody.offsets.tolist()) == (0, [], [0])


def test_cells_look_at_train_rows_of_all_users_even_when_few_are_loaded(rows, folder):
    train = rows.filter(pl.col("split") == "train")
    for users in (None, ["u3"]):
        data = Interactions.load(folder, users=users)
        user_seen, item_seen = data.cells()
        ids = pl.DataFrame({"user_id": [data.user_ids[u] for u in data.user], "item_id": [data.item_ids[i] for i in data.item]})
        assert user_seen.tolist() == ids["user_id"].is_in(train["user_id"].to_list()).to_list()
        assert item_seen.tolist() == ids["item_id"].is_in(train["item_id"].to_list()).to_list()
