"""`thinkrec evaluate`: tables for people, JSON for machines, a folder for later."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest


@pytest.fixture
def command(command):
    """`thinkrec evaluate` beside scores.inter, other.parquet and train.parquet."""
    rng = np.random.default_rng(0)
    ids = {"user_id": np.repeat(np.arange(12), 8).astype(str), "item_id": np.tile(np.arange(8), 12).astype(str)}
    table = pl.DataFrame(ids | {"score": rng.random(96), "label": rng.integers(0, 2, 96)})
    atomic = {"user_id": "user_id:token", "item_id": "item_id:token", "score": "score:float", "label": "label:float"}
    table.rename(atomic).write_csv("scores.inter", separator="\t")
    table.with_columns(guess=1 - pl.col("score")).drop("score").write_parquet("other.parquet")
    table.head(30).select("user_id", "item_id").write_parquet("train.parquet")

    return lambda *words: command("evaluate", *words, "--num-bootstrap", "5")


def test_people_get_every_section_as_a_table(command):
    code, out, err = command("scores.inter", "--reference", "scores.inter", "--train", "train.parquet", "--k", "3", "--k", "2")
    assert (code, err) == (0, "")
    assert "96 rows of 12 users" in out
    for words in (
        "ndcg@2",
        "ndcg@3",
        "plain mean of AUC",
        "paired by user",
        "RecBole GAUC",
        "ECE",
        "user unseen, item seen",
        "history length",
    ):
        assert words in out
    assert "ndcg@5" not in out
    assert "\u2026" not in out  # nothing is cut off


def test_machines_get_json_and_the_folder_holds_the_same(command, tmp_path):
    code, out, _ = command("scores.inter", "--json", "--out", "judged", "--profile", "reference")
    assert code == 0
    report = json.loads(out)
    assert report["settings"]["profile"] == "reference"
    assert json.loads((tmp_path / "judged/report.json").read_text()) == report
    flat = pl.read_csv(tmp_path / "judged/metrics.csv").filter(pl.col("metric") == "auc")
    assert flat["value"].item() == pytest.approx(report["metrics"][0]["metrics"]["auc"]["value"])
    users = pl.read_parquet(tmp_path / "judged/users.parquet")
    assert (users.height, users["num_rows"].sum()) == (12, 96)


def test_a_column_of_another_name_is_judged(command):
    code, out, _ = command("other.parquet", "--score", "guess", "--json")
    assert code == 0
    plain = json.loads(command("scores.inter", "--json")[1])
    turned = json.loads(out)
    areas = [report["metrics"][0]["metrics"]["auc"]["value"] for report in (plain, turned)]
    assert sum(areas) == pytest.approx(1, abs=1e-12)
    assert command("other.parquet", "--score", "guessed")[0] == 2


def test_a_file_nobody_can_judge_log_loss_on_says_so_by_leaving_it_out(command):
    assert "log_loss" in command("scores.inter")[1]
    out = command("scores.inter", "--score-is", "rank")[1]
    assert "log_loss" not in out
    assert "ECE" not in out
