"""Any score file: the same figures as scikit-learn, paired comparisons, and an error that says where for every broken file."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from thinkrec.errors import DataError, MissingFileError
from thinkrec.evaluate.external import judge_file
from thinkrec.evaluate.report.table import text_table


@pytest.fixture
def scores() -> pl.DataFrame:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 300)
    columns = {"user_id": np.repeat(np.arange(30), 10).astype(str), "item_id": np.tile(np.arange(10), 30).astype(str)}
    return pl.DataFrame(columns | {"score": rng.normal(size=300) + label, "label": label})


@pytest.fixture
def write(tmp_path):
    def to(table: pl.DataFrame, name: str = "scores.parquet") -> str:
        path = tmp_path / name
        table.write_csv(path) if name.endswith(".csv") else table.write_parquet(path)
        return str(path)

    return to


def metric(report: dict, name: str = "auc", row: int = 0) -> dict:
    return report["metrics"][row]["metrics"][name]


def test_parquet_and_csv_give_scikit_learns_auc(scores, write):
    first, second = judge_file(write(scores), num_bootstrap=20), judge_file(write(scores, "scores.csv"), num_bootstrap=20)
    assert metric(first)["value"] == pytest.approx(roc_auc_score(scores["label"], scores["score"]), abs=1e-12)
    assert first["metrics"] == second["metrics"]
    assert json.loads(json.dumps(first, allow_nan=False)) == first
    assert "30 users" in text_table(first)


def test_reference_is_compared_on_the_same_rows_in_any_order(scores, write):
    noise = scores.with_columns(score=pl.Series(np.random.default_rng(1).normal(size=300))).sample(fraction=1, shuffle=True, seed=3)
    found = judge_file(write(scores), reference=write(noise.drop("label"), "other.parquet"), num_bootstrap=100)
    difference = found["differences"][0]["metrics"]["auc"]
    assert difference["value"] == pytest.approx(metric(found)["value"] - metric(found, row=1)["value"])
    assert difference["low"] > 0
    assert metric(found, row=1)["value"] == pytest.approx(roc_auc_score(noise["label"], noise["score"]), abs=1e-12)


def test_labels_may_stand_in_a_file_of_their_own(scores, write):
    apart = judge_file(write(scores.drop("label")), write(scores.drop("score").reverse(), "labels.csv"), num_bootstrap=20)
    assert apart["metrics"] == judge_file(write(scores), num_bootstrap=20)["metrics"]


def test_repeated_pairs_are_matched_by_row(scores, write):
    twice = scores.with_columns(item_id=pl.lit("same")).with_row_index("row")
    found = judge_file(write(twice), reference=write(twice.reverse(), "other.parquet"), num_bootstrap=20)
    assert found["differences"][0]["metrics"]["auc"]["value"] == 0
    with pytest.raises(DataError, match="more than one row"):
        judge_file(write(twice.drop("row")), reference=write(twice.drop("row"), "other.parquet"))


def test_leading_zeros_of_ids_survive_csv(scores, write):
    padded = scores.with_columns(user_id=pl.col("user_id").str.zfill(3), item_id=pl.col("item_id").str.zfill(4))
    found = judge_file(write(padded), reference=write(padded, "other.csv"), num_bootstrap=20)
    assert found["num_users"] == 30


BROKEN = {
    "label outside": (lambda t: t.with_columns(label=pl.when(pl.int_range(pl.len()) == 6).then(5).otherwise("label")), "'label'.*5.*row 7"),
    "label is text": (lambda t: t.with_columns(label=pl.lit("yes")), "'label'.*yes.*row 1"),
    "no label": (lambda t: t.with_columns(label=pl.lit(None, pl.Int8)), "'label'.*None.*300 such rows"),
    "score not a number": (lambda t: t.with_columns(score=pl.lit(float("nan"))), "'score'.*nan"),
    "score infinite": (lambda t: t.with_columns(score=pl.lit(float("inf"))), "'score'.*inf"),
    "score of lists": (lambda t: t.with_columns(score=pl.concat_list("score")), "'score' holds List"),
    "user of floats": (lambda t: t.with_columns(user_id=pl.lit(1.5)), "'user_id' holds Float64"),
    "user is null": (lambda t: t.with_columns(user_id=pl.lit(None, pl.String)), "'user_id' holds None"),
    "no score column": (lambda t: t.drop("score"), "no column 'score'"),
    "no user column": (lambda t: t.drop("user_id"), "no column 'user_id'"),
    "no rows": (lambda t: t.head(0), "no rows"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_are_named(scores, write, case):
    spoil, message = BROKEN[case]
    path = write(spoil(scores))
    with pytest.raises(DataError, match=f"(?s){message}") as caught:
        judge_file(path)
    assert path in caught.value.where


def test_files_that_are_not_tables(tmp_path):
    (tmp_path / "scores.parquet").write_bytes(b"not parquet")
    (tmp_path / "scores.csv").write_bytes(b"")
    for name in ("scores.parquet", "scores.csv"):
        with pytest.raises(DataError, match="cannot be read"):
            judge_file(tmp_path / name)
    with pytest.raises(MissingFileError):
        judge_file(tmp_path / "none.parquet")


def test_files_that_do_not_match(scores, write):
    path = write(scores)
    with pytest.raises(DataError, match="299 of them in both"):
        judge_file(path, reference=write(scores.tail(299), "other.parquet"))
    with pytest.raises(DataError, match="cannot be matched"):
        judge_file(path, reference=write(scores.drop("item_id"), "other.parquet"))
