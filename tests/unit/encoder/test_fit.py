"""The encode stage's worker, run in this process: which rows it sees, which files it leaves."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from thinkrec.config import EncoderSection
from thinkrec.data import schema
from thinkrec.encoder import fit
from thinkrec.errors import DataError

ROWS = [  # user, item, label, split
    ("u2", "i1", 1, "train"),
    ("u1", "i2", 0, "train"),
    ("u1", "i1", 1, "train"),
    ("u3", "i1", 0, "valid"),
    ("u1", "i3", 1, "valid"),
    ("u4", "i4", 1, "test"),
]


@pytest.fixture
def ingest(tmp_path):
    """An ingest folder with two buckets whose rows are not in the order of the data set."""
    users, items, labels, splits = zip(*ROWS, strict=True)
    table = pa.table(
        {
            "user_id": users,
            "item_id": items,
            "ts": range(6),
            "rating": pa.nulls(6, pa.float32()),
            "label": labels,
            "split": splits,
            "row": range(6),
        },
        schema=schema.INTERACTIONS,
    )
    for bucket, places in enumerate(([5, 2, 0], [4, 3, 1])):
        folder = tmp_path / f"ingest/interactions/bucket={bucket:03d}"
        folder.mkdir(parents=True)
        pq.write_table(table.take(places), folder / "part-0.parquet")
    return tmp_path / "ingest"


def test_ratings_know_train_only_and_never_see_test(ingest):
    train, valid, users, items = fit.read_ratings(ingest / "interactions")
    assert (users.to_list(), items.to_list()) == (["u1", "u2"], ["i1", "i2"])
    assert [train.user.tolist(), train.item.tolist(), train.label.tolist()] == [[1, 0, 0], [0, 1, 0], [1, 0, 1]]
    assert [valid.user.tolist(), valid.item.tolist(), valid.label.tolist()] == [[-1, 0], [0, -1], [0, 1]]


def test_the_worker_writes_vectors_and_what_they_are_and_repeats_itself(ingest, tmp_path):
    settings = {
        "encoder": EncoderSection(dim=3, num_epochs=2).model_dump(),
        "ingest": {"uri": str(ingest), "key": "k"},
        "uri": str(tmp_path / "out"),
        "seed": 1,
        "use_gpu": False,
    }
    fit.train_function(settings)
    fit.train_function(settings | {"uri": str(tmp_path / "again")})
    for name in ("users.parquet", "items.parquet", "encoder.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    users = pq.read_table(tmp_path / "out/users.parquet")
    assert users.schema.equals(schema.vectors(4))
    assert users["id"].to_pylist() == ["u1", "u2"]
    assert pl.from_arrow(users)["vector"].to_numpy().std() > 0
    meta = json.loads((tmp_path / "out/encoder.json").read_text())
    assert (meta["source"], meta["space"], meta["dim"], meta["num_users"], meta["num_items"]) == ("mf", "mf_bias", 4, 2, 2)
    assert meta["mean"] == pytest.approx(np.log(2.5 / 1.5))


def test_given_vectors_are_copied_with_their_space(tmp_path):
    for name, ids in (("u", ["u1", "u9"]), ("i", ["i1", "i2"])):
        pq.write_table(pa.table({"id": ids, "vector": [[1.0, 2.0], [3.0, 4.0]]}), tmp_path / f"{name}.parquet")
    encoder = EncoderSection(source="given", users_path=str(tmp_path / "u.parquet"), items_path=str(tmp_path / "i.parquet"))
    meta = fit.take_given(encoder, str(tmp_path / "out"))
    assert meta == {"source": "given", "space": "given", "dim": 2, "num_users": 2, "num_items": 2}
    assert json.loads((tmp_path / "out/encoder.json").read_text()) == meta
    assert pq.read_table(tmp_path / "out/users.parquet")["id"].to_pylist() == ["u1", "u9"]


def test_given_users_and_items_must_share_a_space(tmp_path):
    pq.write_table(pa.table({"id": ["u1", "u2"], "vector": [[1.0, 2.0], [3.0, 4.0]]}), tmp_path / "u.parquet")
    pq.write_table(pa.table({"id": ["i1", "i2"], "vector": [[1.0], [3.0]]}), tmp_path / "i.parquet")
    encoder = EncoderSection(source="given", users_path=str(tmp_path / "u.parquet"), items_path=str(tmp_path / "i.parquet"))
    with pytest.raises(DataError, match="user vectors have 2 numbers, item vectors 1"):
        fit.take_given(encoder, str(tmp_path / "out"))
