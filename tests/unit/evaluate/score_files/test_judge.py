"""Any score file: the same figures as scikit-learn however it is cut into shards, paired comparisons, cells and curves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from thinkrec.errors import DataError
from thinkrec.evaluate.metrics import score_counts
from thinkrec.evaluate.score_files.judge import Files, InMemory, judge

METRICS = ["auc", "uauc", "gauc_rows", "gauc_pos", "ndcg@2", "map@2", "hr@2", "log_loss"]


@pytest.fixture
def scores() -> pl.DataFrame:
    """30 users, the last five with one class; scores are probabilities."""
    rng = np.random.default_rng(0)
    user, label = np.repeat(np.arange(30), 10), rng.integers(0, 2, 300)
    label[user >= 25] = 1
    columns = {"user_id": user.astype(str), "item_id": np.tile(np.arange(10), 30).astype(str)}
    return pl.DataFrame(columns | {"score": 1 / (1 + np.exp(-(rng.normal(size=300) + label))), "label": label})


@pytest.fixture
def write(tmp_path):
    def to(table: pl.DataFrame, name: str = "scores.parquet") -> str:
        path = tmp_path / name
        table.write_csv(path) if name.endswith(".csv") else table.write_parquet(path)
        return str(path)

    return to


@dataclass
class Pieces:
    """Users dealt to shards in this process."""

    tables: list[pl.DataFrame]
    warnings: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, files: Files, number: int) -> Pieces:
        whole = InMemory.of(files).table.sample(fraction=1, shuffle=True, seed=1)
        return cls([whole.filter(pl.col("user_id").cast(pl.Int64) % number == n) for n in range(number)])

    def map(self, function, *arguments) -> Iterator[pl.DataFrame]:
        return (function(table, *arguments) for table in reversed(self.tables))


def report_of(files: Files, num_bootstrap: int = 5, **options) -> dict:
    return judge(files, InMemory.of(files), num_bootstrap=num_bootstrap, **options).report


def metric(report: dict, name: str = "auc", row: int = 0) -> dict:
    return report["metrics"][row]["metrics"][name]


def close(first, second) -> None:
    """Equal structures, numbers to 1e-12."""
    assert type(first) is type(second)
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            close(first[key], second[key])
    elif isinstance(first, list):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            close(one, other)
    elif isinstance(first, float):
        assert first == pytest.approx(second, abs=1e-12, rel=0)
    else:
        assert first == second


def test_figures_equal_scikit_learns(scores, write):
    found = report_of(Files(write(scores)), ks=(2,))
    label, score = scores["label"], scores["score"]
    mixed = [user for _, user in scores.group_by("user_id") if user["label"].n_unique() == 2]
    assert list(found["metrics"][0]["metrics"]) == list(found["definitions"]) == METRICS
    assert metric(found)["value"] == pytest.approx(roc_auc_score(label, score), abs=1e-12)
    assert metric(found, "uauc")["value"] == pytest.approx(np.mean([roc_auc_score(u["label"], u["score"]) for u in mixed]), abs=1e-12)
    assert metric(found, "log_loss")["value"] == pytest.approx(log_loss(label, score), abs=1e-12)
    assert found["calibration"]["scores"]["brier"] == pytest.approx(brier_score_loss(label, score), abs=1e-12)
    assert (metric(found, "uauc")["num_users"], metric(found, "uauc")["num_dropped"]) == (len(mixed), 30 - len(mixed))
    assert len(mixed) < 30
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_shards_of_users_give_the_same_report(scores, write):
    noise = scores.with_columns(score=pl.Series(np.random.default_rng(1).random(300)))
    train = scores.select("user_id", "item_id").filter(pl.int_range(pl.len()) % 7 < 3).filter(pl.col("user_id").cast(pl.Int64) < 20)
    files = Files(write(scores), reference=write(noise, "other.parquet"), train=write(train, "train.parquet"))
    whole = judge(files, InMemory.of(files), num_bootstrap=5)
    parted = judge(files, Pieces.of(files, 3), num_bootstrap=5)
    close(parted.report, whole.report)
    assert parted.users["user_id"].equals(whole.users["user_id"])


def test_shards_give_the_same_report_when_scores_are_too_many_to_count_one_by_one(scores, write, monkeypatch):
    files = Files(write(scores))
    exact = report_of(files)
    monkeypatch.setattr(score_counts, "MAX_CELLS", 64)
    monkeypatch.setattr("thinkrec.evaluate.score_files.slices.MAX_CELLS", 64)
    whole = report_of(files)
    close(judge(files, Pieces.of(files, 4), num_bootstrap=5).report, whole)
    assert 0 < abs(metric(whole)["value"] - metric(exact)["value"]) <= whole["auc_error"]["scores"]
    assert metric(whole, "uauc")["value"] == pytest.approx(metric(exact, "uauc")["value"], abs=1e-12)  # users are ranked by the scores


def test_a_shard_that_cuts_users_apart_is_not_the_same(scores, write):
    """The control: shards must hold whole users."""
    files = Files(write(scores))
    table = InMemory.of(files).table
    cut = judge(files, Pieces([table[0:155], table[155:]]), num_bootstrap=5).report
    assert metric(cut, "uauc")["value"] != pytest.approx(metric(report_of(files), "uauc")["value"], abs=1e-12)


def test_reference_is_compared_on_the_same_rows_in_any_order(scores, write):
    noise = scores.with_columns(score=pl.Series(np.random.default_rng(1).normal(size=300))).sample(fraction=1, shuffle=True, seed=3)
    found = report_of(Files(write(scores), reference=write(noise.drop("label"), "other.parquet")), num_bootstrap=100)
    difference = found["differences"][0]["metrics"]["auc"]
    assert difference["value"] == pytest.approx(metric(found)["value"] - metric(found, row=1)["value"])
    assert difference["low"] > 0
    assert difference["p"] < 0.05
    assert metric(found, row=1)["value"] == pytest.approx(roc_auc_score(noise["label"], noise["score"]), abs=1e-12)
    assert "log_loss" not in found["differences"][0]["metrics"]  # the reference holds no probabilities


def test_labels_may_stand_in_a_file_of_their_own(scores, write):
    apart = report_of(Files(write(scores.drop("label")), labels=write(scores.drop("score").reverse(), "labels.csv")))
    assert apart["metrics"] == report_of(Files(write(scores, "whole.parquet")))["metrics"]


def test_repeated_pairs_are_matched_by_row(scores, write):
    twice = scores.with_columns(item_id=pl.lit("same")).with_row_index("row")
    found = report_of(Files(write(twice), reference=write(twice.reverse(), "other.parquet")))
    assert found["differences"][0]["metrics"]["auc"]["value"] == 0
    files = Files(write(twice.drop("row")), reference=write(twice.drop("row"), "other.parquet"))
    with pytest.raises(DataError, match="more than one row"):
        report_of(files)


def test_files_that_do_not_match(scores, write):
    files = Files(write(scores), reference=write(scores.tail(299), "other.parquet"))
    with pytest.raises(DataError, match="299 of them in both"):
        report_of(files)
    with pytest.raises(DataError, match="cannot be matched"):
        report_of(replace(files, reference=write(scores.drop("item_id"), "other.parquet")))


def test_cells_and_curves_are_the_auc_of_their_rows(scores, write):
    """Users below 10 have a row in train, user 0 six; items below 5 are in train."""
    train = pl.DataFrame({"user_id": [str(n) for n in range(10)] + ["0"] * 5, "item_id": [str(n % 5) for n in range(10)] + ["0"] * 5})
    found = report_of(Files(write(scores), train=write(train, "train.parquet")))
    user, item = pl.col("user_id").cast(pl.Int64), pl.col("item_id").cast(pl.Int64)
    expected = {
        "cell": {
            "user seen, item seen": (user < 10) & (item < 5),
            "user seen, item unseen": (user < 10) & (item >= 5),
            "user unseen, item seen": (user >= 10) & (item < 5),
            "user unseen, item unseen": (user >= 10) & (item >= 5),
        },
        "history_length": {"0": user >= 10, "1 to 4": user.is_between(1, 9), "5 to 19": user == 0},
        "item_popularity": {"0": item >= 5, "1 to 4": item.is_between(1, 4), "5 to 19": item == 0},
    }
    for slicing, groups in expected.items():
        assert [row["group"] for row in found[slicing]] == list(groups)
        for row, chosen in zip(found[slicing], groups.values(), strict=True):
            rows = scores.filter(chosen)
            assert (row["num_rows"], row["num_users"]) == (rows.height, rows["user_id"].n_unique())
            assert row["auc"]["scores"]["value"] == pytest.approx(roc_auc_score(rows["label"], rows["score"]), abs=1e-12)
    assert report_of(Files(write(scores)))["cell"] == []


def test_the_profile_decides_who_counts(scores, write):
    standard, reference = (report_of(Files(write(scores)), profile=profile) for profile in ("standard", "reference"))
    assert metric(reference, "map@5")["value"] < metric(standard, "map@5")["value"]
    assert metric(reference)["value"] == metric(standard)["value"]
    assert standard["definitions"]["map@5"] != reference["definitions"]["map@5"]


def test_how_a_score_is_read(scores, write):
    files = Files(write(scores))
    odds = replace(files, scores=write(scores.with_columns(score=(pl.col("score") / (1 - pl.col("score"))).log()), "odds.parquet"))
    known = metric(report_of(files), "log_loss")["value"]
    assert metric(report_of(odds, score_is="logit"), "log_loss")["value"] == pytest.approx(known, abs=1e-12)
    assert report_of(odds)["calibration"]["scores"] is None
    assert "log_loss" not in report_of(files, score_is="rank")["metrics"][0]["metrics"]
    with pytest.raises(DataError, match="not probabilities"):
        report_of(odds, score_is="probability")
