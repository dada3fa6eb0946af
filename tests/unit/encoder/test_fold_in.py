"""Vectors that new rows move: the posterior's maximum, the taste that the rows show, and nobody else's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import scipy.optimize
from ingested import write_log

from thinkrec.artefacts.vectors import EncoderFacts, read_bucket_vectors, vector_table, write_facts, write_item_vectors, write_user_vectors
from thinkrec.encoder import fold_in
from thinkrec.encoder.fold_in import Start, fold, fold_bucket

DIM = 3  # two tastes and the bias
rng = np.random.default_rng(0)
USERS = {name: rng.normal(size=DIM).astype(np.float32) for name in ("ann", "bob", "eve")}
ITEMS = {f"i{number}": np.array([3.0 * (-1) ** number, 0.0, 0.1], np.float32) for number in range(12)}
FACTS = EncoderFacts("mf", True, DIM, len(USERS), len(ITEMS), num_buckets=1, mean=0.2, num_rows=6)
START = Start.of(rng.normal(size=(50, DIM)))


def rows(split: str, user: str, items: range, label: int, begin: int) -> list[tuple[object, ...]]:
    return [(user, f"i{item}", begin + at, None, label, split, begin + at) for at, item in enumerate(items)]


@pytest.fixture
def places(tmp_path) -> dict[str, str]:
    """Yesterday ann and bob had train rows; today ann and the newcomer zoe have more, which were valid, and zoe is judged."""
    schema = {"user_id": pl.String, "item_id": pl.String, "ts": pl.Int64, "rating": pl.Float32, "label": pl.Int8, "split": pl.String}
    schema |= {"row": pl.Int64}
    old = rows("train", "ann", range(3), 1, 0) + rows("train", "bob", range(3), 0, 10)
    new = rows("valid", "ann", range(3, 7), 1, 20) + rows("valid", "zoe", range(0, 8, 2), 1, 30)
    test = rows("test", "zoe", range(8, 10), 1, 40)
    write_log(tmp_path / "ingest_before", pl.DataFrame(old + new, schema=schema, orient="row"), 1)
    moved = [(*row[:5], "train", row[6]) for row in old + new]
    write_log(tmp_path / "ingest", pl.DataFrame(moved + test, schema=schema, orient="row"), 1)
    before = tmp_path / "encode_before"
    write_facts(before, FACTS)
    write_item_vectors(before, vector_table(list(ITEMS), np.array(list(ITEMS.values()))))
    write_user_vectors(before, vector_table(list(USERS), np.array(list(USERS.values()))), 1)
    return {name: str(tmp_path / name) for name in ("ingest", "ingest_before", "encode_before")}


def vectors(folder: Path) -> dict[str, np.ndarray]:
    table = read_bucket_vectors(folder, 0)
    return dict(zip(table["id"], table["vector"].to_numpy(), strict=True))


def test_who_has_new_train_rows_gets_a_vector_that_knows_them(places, tmp_path):
    told = fold_bucket(0, **places, out=str(tmp_path / "out"), start=START).to_pylist()[0]
    found = vectors(tmp_path / "out")
    assert (told["num_users"], told["num_new"], told["num_rows"]) == (2, 1, 8)
    assert {name for name in USERS if np.array_equal(found[name], USERS[name])} == {"bob", "eve"}
    assert found["zoe"][0] > START.mean[0]  # all that she liked points there
    assert [score["row"] for score in told["scores"]] == [40, 41]
    even, odd = (score["score"] for score in told["scores"])
    assert even > odd


def test_test_rows_teach_nothing(places, tmp_path):
    fold_bucket(0, **places, out=str(tmp_path / "out"), start=START)
    file = next((tmp_path / "ingest").glob("interactions/*/*.parquet"))
    pl.read_parquet(file).with_columns(label=pl.when(split=pl.lit("test")).then(0).otherwise("label").cast(pl.Int8)).write_parquet(file)
    fold_bucket(0, **places, out=str(tmp_path / "other"), start=START)
    assert vectors(tmp_path / "out")["zoe"].tolist() == vectors(tmp_path / "other")["zoe"].tolist()


@pytest.mark.parametrize("start", [None, START])
def test_a_bucket_without_new_rows_is_copied_and_given_vectors_stay(places, tmp_path, start):
    same = places | ({"ingest_before": places["ingest"]} if start else {})
    if start is None:
        write_facts(places["encode_before"], replace(FACTS, source="given", has_bias=False))
    fold_bucket(0, **same, out=str(tmp_path / "out"), start=start)
    name = "users/bucket=000/part-0.parquet"
    assert (tmp_path / "out" / name).read_bytes() == (Path(places["encode_before"]) / name).read_bytes()


def test_the_vector_is_the_maximum_of_the_posterior():
    def draw(number: int) -> tuple[np.ndarray, np.ndarray]:
        return rng.normal(size=(number, DIM)) * 2, rng.normal(size=number)

    seen, (x, offset) = draw(5), draw(9)
    label, before = rng.integers(0, 2, 9).astype(float), rng.normal(size=DIM)
    p = 1 / (1 + np.exp(-(seen[0] @ before + seen[1])))
    known = START.precision + (seen[0] * (p * (1 - p))[:, None]).T @ seen[0]

    def loss(at: np.ndarray) -> float:
        logits = x @ at + offset
        return float(np.sum(np.logaddexp(0, logits) - label * logits) + (at - before) @ known @ (at - before) / 2)

    best = scipy.optimize.minimize(loss, before, method="BFGS", options={"gtol": 1e-8}).x
    np.testing.assert_allclose(fold(seen, (x, offset, label), before, START.precision), best, atol=1e-4)


def test_without_rows_a_vector_stays():
    none = np.zeros((0, DIM)), np.zeros(0)
    before = rng.normal(size=DIM)
    np.testing.assert_array_equal(fold(none, (*none, np.zeros(0)), before, START.precision), before)


def test_a_number_that_never_varies_is_no_trouble():
    start = Start.of(np.column_stack([rng.normal(size=(20, 2)), np.zeros(20)]))
    assert np.isfinite(start.precision).all()
    assert fold_in.FLOOR > 0
