"""`thinkrec evaluate LISTS --likes FILE`: any file of lists, and what is refused."""

from __future__ import annotations

import json

import polars as pl
import pytest

from thinkrec.cli.main import main


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [(f"u{user}", f"i{(user + 3 * place) % 12}", 9.0 - place) for user in range(12) for place in range(4)]
    lists = pl.DataFrame(rows, schema=["user_id", "item_id", "score"], orient="row")
    lists.write_parquet("lists.parquet")
    lists.with_columns(score=-pl.col("score")).write_csv("turned.csv")
    likes = lists.filter(pl.col("score") == 9.0).select("user_id", "item_id", label=1)
    pl.concat([likes, lists.filter(pl.col("score") == 8.0).select("user_id", "item_id", label=0)]).write_csv("likes.csv")
    lists.select("user_id", "item_id").write_csv("train.csv")
    pl.concat([lists, lists[:1]]).write_csv("twice.csv")
    pl.DataFrame({"user_id": ["u0"], "item_id": ["i0"], "label": [0]}).write_csv("nobody.csv")
    return tmp_path


def call(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", *words])
    return int(ended.value.code or 0)


def test_lists_that_are_right_beat_those_that_are_turned_about(folder, capsys):
    words = ["lists.parquet", "--likes", "likes.csv", "--reference", "turned.csv", "--train", "train.csv", "--k", "2"]
    assert call(*words, "--num-bootstrap", "50", "--json", "--out", "judged") == 0
    report = json.loads(capsys.readouterr().out)
    assert report == json.loads((folder / "judged/report.json").read_text())
    first, second = report["metrics"]
    assert first["metrics"]["ndcg@2"]["value"] == 1.0
    assert second["metrics"]["hr@2"]["value"] == 0.0
    assert report["differences"][0]["metrics"]["ndcg@2"]["low"] > 0
    assert report["exposure"]["lists"]["coverage"] == 1.0
    assert call(*words, "--num-bootstrap", "50") == 0
    said = capsys.readouterr().out
    assert "in NDCG@2, lists beats reference" in said
    assert call("turned.csv", "--likes", "likes.csv", "--reference", "lists.parquet", "--num-bootstrap", "50") == 0
    assert "in NDCG@10, lists loses to reference" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["twice.csv", "--likes", "likes.csv"], "is twice in the list of user 'u0'"),
        (["lists.parquet", "--likes", "nobody.csv"], "nobody likes anything here"),
        (["likes.csv", "--likes", "likes.csv"], "no column 'score'"),
        (["lists.parquet", "--likes", "gone.csv"], "there is no such file"),
        (["lists.parquet", "--likes", "likes.csv", "--shards", "2"], "leave out --labels and --shards"),
    ],
)
def test_what_is_refused(folder, capsys, words, said):
    assert call(*words) == 2
    assert said in capsys.readouterr().err
