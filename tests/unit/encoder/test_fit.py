"""The encode stage's worker, run in this process: which rows move its vectors, which files it leaves."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from thinkrec.artefacts.vectors import EncoderFacts, read_bucket_vectors, read_facts, read_vectors, vector_columns
from thinkrec.config.model import EncoderSection
from thinkrec.config.run import Config, RunSection
from thinkrec.distributed.worker_group import Worker
from thinkrec.encoder import fit
from thinkrec.errors import DataError
from thinkrec.store.artefacts import Artefact

SETTINGS = {
    "mf": EncoderSection(dim=3, num_epochs=2),
    "lightgcn": EncoderSection(source="lightgcn", dim=3, num_epochs=2),
    "sasrec": EncoderSection(source="sasrec", dim=3, num_epochs=2),
}
USERS = ("users/bucket=000/part-0.parquet", "users/bucket=001/part-0.parquet")
LEARNED = pytest.mark.parametrize("source", SETTINGS)


@pytest.fixture
def work(ingest, tmp_path):
    """work(source, name) runs the worker on the ingest folder as it stands and returns the folder it filled."""

    def run(source: str, name: str) -> Path:
        config = Config(encoder=SETTINGS[source], run=RunSection(seed=1))
        fit.train_encoder(Worker(), fit.EncoderTask(config, Artefact(str(ingest), {}), str(tmp_path / name)))
        return tmp_path / name

    return run


@LEARNED
def test_the_worker_writes_vectors_and_what_they_are_and_repeats_itself(work, source):
    out, again = work(source, "out"), work(source, "again")
    for name in (*USERS, "items.parquet", "scores.parquet", "encoder.json"):
        assert (out / name).read_bytes() == (again / name).read_bytes()
    parts = [pq.read_table(out / name, partitioning=None) for name in USERS]
    assert all(part.schema.equals(vector_columns(4)) for part in parts)
    users = pa.concat_tables(parts)
    assert sorted(users["id"].to_pylist()) == ["u1", "u2"]
    assert pq.read_table(out / "items.parquet")["id"].to_pylist() == ["i1", "i2"]
    assert pl.from_arrow(users)["vector"].to_numpy().std() > 0
    meta = json.loads((out / "encoder.json").read_text())
    assert [meta[name] for name in ("source", "has_bias", "dim", "num_users", "num_items")] == [source, True, 4, 2, 2]
    assert meta["mean"] == pytest.approx(np.log(2.5 / 1.5))
    scores = pl.read_parquet(out / "scores.parquet")
    assert scores["row"].to_list() == [5]
    assert scores["score"].is_finite().all()


@LEARNED
def test_no_test_row_moves_a_vector(work, ingest, source):
    """Other items, other labels and other people in test; the control flips the labels of train."""
    before = work(source, "before")
    spoil(ingest, "test", {"label": 0, "item_id": "i1", "user_id": "u1"})
    after = work(source, "after")
    spoil(ingest, "train", {"label": 0})
    control = work(source, "control")
    for name in (*USERS, "items.parquet"):
        assert (after / name).read_bytes() == (before / name).read_bytes()
    for ids in (["u1", "u2"], ["i1", "i2"]):
        vectors, unlike = (read_vectors(folder, "users" if "u1" in ids else "items", ids) for folder in (before, control))
        assert (vectors != unlike).any(axis=1).all()
    assert (after / "scores.parquet").read_bytes() != (before / "scores.parquet").read_bytes()


def spoil(ingest: Path, split: str, values: dict[str, object]) -> None:
    """Overwrite columns of a split's rows."""
    for file in ingest.glob("interactions/*/*.parquet"):
        rows, chosen = pl.read_parquet(file, hive_partitioning=False), pl.col("split") == split
        rows.with_columns(
            pl.when(chosen).then(pl.lit(value, rows.schema[name])).otherwise(name).alias(name) for name, value in values.items()
        ).write_parquet(file)


def test_given_vectors_are_copied_with_their_space(tmp_path):
    for name, ids in (("u", ["u1", "u9"]), ("i", ["i1", "i2"])):
        pq.write_table(pa.table({"id": ids, "vector": [[1.0, 2.0], [3.0, 4.0]]}), tmp_path / f"{name}.parquet")
    encoder = EncoderSection(source="given", users_path=str(tmp_path / "u.parquet"), items_path=str(tmp_path / "i.parquet"))
    fit.take_given(encoder, str(tmp_path / "out"), 3)
    assert read_facts(tmp_path / "out") == EncoderFacts("given", has_bias=False, dim=2, num_users=2, num_items=2, num_buckets=3)
    assert sorted(user for bucket in range(3) for user in read_bucket_vectors(tmp_path / "out", bucket)["id"]) == ["u1", "u9"]
    assert read_vectors(tmp_path / "out", "users", ["u9", "u1"]).tolist() == [[3, 4], [1, 2]]


def test_given_users_and_items_must_share_a_space(tmp_path):
    pq.write_table(pa.table({"id": ["u1", "u2"], "vector": [[1.0, 2.0], [3.0, 4.0]]}), tmp_path / "u.parquet")
    pq.write_table(pa.table({"id": ["i1", "i2"], "vector": [[1.0], [3.0]]}), tmp_path / "i.parquet")
    encoder = EncoderSection(source="given", users_path=str(tmp_path / "u.parquet"), items_path=str(tmp_path / "i.parquet"))
    with pytest.raises(DataError, match="user vectors have 2 numbers, item vectors 1"):
        fit.take_given(encoder, str(tmp_path / "out"), 1)
