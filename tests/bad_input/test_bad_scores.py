"""Score files that cannot be judged."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from spoil import NAN, Case, Spoiler, cell, column, content, cut_short, flipped, nothing, table

from thinkrec.cli.main import main

JUDGE = ("evaluate", "given/scores.parquet")
CSV, TSV, JSONL = (("evaluate", f"given/scores.{ending}") for ending in ("csv", "tsv", "jsonl"))
JSON = b'{"user_id": "a", "score": 0.5, "label": 0}\n'


def copied(name: str, change: Callable[[pl.DataFrame], pl.DataFrame] = lambda t: t) -> Spoiler:
    """The scores under another name, changed."""

    def spoil(folder: Path) -> None:
        path = folder / "given" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        change(pl.read_parquet(folder / "given/scores.parquet")).write_parquet(path)

    return spoil


def a_delta_table(folder: Path) -> None:
    copied("delta/a.parquet")(folder)
    (folder / "given/delta/_delta_log").mkdir()
    (folder / "given/delta/_delta_log/00000000000000000000.json").write_text("{}")


def hidden_alone(folder: Path) -> None:
    for name in (".ipynb_checkpoints/a.parquet", "_temporary/a.parquet", "_a.parquet"):
        copied(f"hidden/{name}")(folder)


def two_kinds(folder: Path) -> None:
    copied("parts/a.parquet")(folder)
    copied("parts/b.parquet", lambda t: t.drop("item_id"))(folder)


CASES = {
    "no file": Case(nothing, ("evaluate", "nowhere.parquet"), "there is no such file"),
    "a folder without tables": Case(nothing, ("evaluate", "given/base"), "there is no such file"),
    "a folder of other tables": Case(nothing, ("evaluate", "given"), "no column 'score'"),
    "cut short": Case(content("given/scores.parquet", cut_short), JUDGE, "cannot be read"),
    "flipped bits": Case(content("given/scores.parquet", flipped), JUDGE, "cannot be read"),
    "an empty file": Case(content("given/scores.csv", b""), CSV, "the header line names no columns"),
    "not UTF-8": Case(content("given/scores.csv", b"user_id,score,label\n\xff\xfe,1,1\n"), CSV, "cannot be read"),
    "a row too long": Case(content("given/scores.csv", b"user_id,score,label\na,1,1,1,1\n"), CSV, "cannot be read"),
    "no column": Case(table("scores", lambda t: t.drop("score")), JUDGE, "no column 'score'"),
    "no rows": Case(table("scores", lambda t: t.head(0)), JUDGE, "no rows in this file"),
    "NaN": Case(cell("scores", "score", NAN), JUDGE, "column 'score' holds nan"),
    "text for a number": Case(content("given/scores.csv", b"user_id,score,label\na,high,1\n"), CSV, "column 'score' holds 'high'"),
    "label outside 0 and 1": Case(cell("scores", "label", 3), JUDGE, "column 'label' holds 3"),
    "a user without id": Case(cell("scores", "user_id", None), JUDGE, "column 'user_id' holds None"),
    "scores that are lists": Case(column("scores", score=[1.0]), JUDGE, "column 'score' holds List"),
    "a reference over other rows": Case(
        table("scores", lambda t: t.head(9)), (*JUDGE, "--reference", "given/interactions.parquet"), "no column 'score'"
    ),
    "infinity as text": Case(content("given/scores.csv", b"user_id,score,label\na,inf,1\n"), CSV, "column 'score' holds 'inf'.*row 1"),
    "a decimal comma": Case(content("given/scores.csv", b'user_id,score,label\na,"0,5",1\n'), CSV, "column 'score' holds '0,5'"),
    "labels that are words": Case(content("given/scores.csv", b"user_id,score,label\na,1,yes\n"), CSV, "column 'label' holds 'yes'"),
    "labels of -1 and 1": Case(column("scores", label=pl.lit(-1)), JUDGE, "column 'label' holds -1; 180 such rows"),
    "a row too short": Case(content("given/scores.csv", b"user_id,score,label\na,1,1\nb,1\n"), CSV, "'label' holds None.*row 2"),
    "scores that are truths": Case(column("scores", score=True), JUDGE, "column 'score' holds Boolean"),
    "ids that are decimals": Case(column("scores", user_id=1.0), JUDGE, "column 'user_id' holds Float64"),
    "ids that are bytes": Case(column("scores", user_id=b"\xff"), JUDGE, "column 'user_id' holds Binary"),
    "ids that are dates": Case(column("scores", item_id=date(2020, 1, 1)), JUDGE, "column 'item_id' holds Date"),
    "an empty id": Case(cell("scores", "user_id", ""), JUDGE, "column 'user_id' holds ''"),
    "a blank id": Case(cell("scores", "item_id", "  "), JUDGE, "column 'item_id' holds '  '"),
    "an id with a line end": Case(cell("scores", "item_id", "i\n1"), JUDGE, "column 'item_id' holds"),
    "row numbers that are none": Case(column("scores", row=pl.lit("a")), JUDGE, "column 'row' holds 'a'"),
    "a column twice": Case(content("given/scores.csv", b"user_id,score,label,score\na,1,1,2\n"), CSV, "names 'score' twice"),
    "semicolons": Case(
        content("given/scores.csv", b"user_id;score;label\na;1;1\n"), CSV, "the header line has semicolons where commas should stand"
    ),
    "UTF-16": Case(content("given/scores.csv", "user_id,score,label\na,1,1\n".encode("utf-16")), CSV, "UTF-16 text, not UTF-8"),
    "lines that end as on old Macs": Case(content("given/scores.csv", b"user_id,score,label\ra,1,1\r"), CSV, "cannot be read"),
    "a quote that is never closed": Case(
        content("given/scores.csv", b'user_id,score,label\na,1,1\n"b,1,1\n'), CSV, "cannot be read.*row 2"
    ),
    "a TSV with a cell too many": Case(
        content("given/scores.tsv", b'user_id\tscore\tlabel\na\t1\t1\n"b\tc"\t1\t1\n'), TSV, "cannot be read.*row 2"
    ),
    "a missing id as pandas writes it": Case(cell("scores", "user_id", "nan"), JUDGE, "column 'user_id' holds 'nan'"),
    "a web page": Case(content("given/scores.csv", b"<!DOCTYPE html><html>"), CSV, "this is a web page"),
    "JSON cut short": Case(content("given/scores.jsonl", JSON + b'{"user_id": "b", "sco'), JSONL, "cannot be read.*row 2"),
    "JSON of no objects": Case(content("given/scores.jsonl", b"[1]\n"), JSONL, "the first line is not a JSON object"),
    "JSON ids of two kinds": Case(
        content("given/scores.jsonl", JSON + b'{"user_id": 1, "score": 1, "label": 1}'), JSONL, "changed from.*row 2"
    ),
    "JSON NaN": Case(
        content("given/scores.jsonl", JSON + b'{"user_id": "b", "score": NaN, "label": 1}'), JSONL, "'score' holds nan.*row 2"
    ),
    "JSON without a key": Case(content("given/scores.jsonl", JSON + b'{"user_id": "b", "label": 1}'), JSONL, "'score' holds None.*row 2"),
    "JSON key twice": Case(content("given/scores.jsonl", b'{"user_id": "b", "score": 1, "score": 2, "label": 1}'), JSONL, "twice in row 0"),
    "half a character": Case(content("given/scores.jsonl", b'{"user_id": "\\ud800", "score": 1, "label": 1}'), JSONL, "cannot be read"),
    "a Delta table": Case(a_delta_table, ("evaluate", "given/delta"), "a table with a log, which says which of its files count"),
    "a folder of hidden files": Case(hidden_alone, ("evaluate", "given/hidden"), "there is no such file"),
    "parts of two kinds": Case(two_kinds, ("evaluate", "given/parts"), "do not have the same columns"),
    "one pair, two scores": Case(
        table("scores", lambda t: pl.concat([t, t.head(4).with_columns(score=0.25)])),
        JUDGE,
        "'u0', item_id 'i0'; .*; ... .8 rows. stand in more",
    ),
    "one pair, two labels": Case(
        table("scores", lambda t: pl.concat([t, t.head(1).with_columns(label=1 - pl.col("label"))])),
        JUDGE,
        "'u0', item_id 'i0' .2 rows. stands in more",
    ),
    "labels that contradict": Case(
        column("interactions", label=1), (*JUDGE, "--labels", "given/interactions.parquet"), "90 rows. stand with one label in the first"
    ),
    "a reference without pairs or rows": Case(
        table("interactions", lambda t: t.select("user_id", score=0.5)),
        (*JUDGE, "--reference", "given/interactions.parquet"),
        "cannot be matched row by row",
    ),
    "labels whose ids are another form": Case(
        column("interactions", user_id=pl.col("user_id").str.to_uppercase()),
        (*JUDGE, "--labels", "given/interactions.parquet"),
        "0 of them in both.*differ in form: user_id 'u0' in given/scores.parquet is 'U0'",
    ),
    "a train file whose ids are another form": Case(
        column("interactions", item_id=" " + pl.col("item_id")),
        (*JUDGE, "--train", "given/interactions.parquet"),
        "the item_id of 180 of 180 rows is not in train.*differ in form",
    ),
    "labels of other rows": Case(
        table("interactions", lambda t: t.head(9)), (*JUDGE, "--labels", "given/interactions.parquet"), "180 and 9 rows, 9 of them in both"
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_scores_that_cannot_be_judged_are_refused(refused, case):
    refused(case)


def test_the_control_is_sound(command):
    assert command(*JUDGE)[0] == 0


SAID = {
    "padding": (
        copied("s/a.parquet", lambda t: pl.concat([t, t.tail(27)])),
        "27 of 207 rows are copies of others and were left out; 180 count",
    ),
    "a hidden copy": (lambda folder: [copied(f"s/{name}")(folder) for name in ("a.parquet", ".ipynb_checkpoints/a.parquet")], None),
    "an index of the frame": (copied("s/a.parquet", lambda t: t.reverse().with_row_index("row")), None),
    "overlapping shards": (
        lambda folder: [copied("s/a.parquet", lambda t: t.head(90))(folder), copied("s/b.parquet", lambda t: t.tail(100))(folder)],
        "10 of 190 rows are copies",
    ),
}


@pytest.mark.parametrize(("spoil", "says"), SAID.values(), ids=SAID)
def test_rows_that_stand_twice_count_once_and_are_said(folder, capsys, spoil, says):
    spoil(folder)
    with pytest.raises(SystemExit) as caught:
        main(["evaluate", "given/s", "--num-bootstrap", "2"])
    out = capsys.readouterr().out
    assert not caught.value.code
    assert "180 rows of 6 users" in out
    assert ("warning: " in out) == bool(says)
    assert (says or "") in out
