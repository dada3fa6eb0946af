"""Score files that cannot be judged."""

from __future__ import annotations

import pytest
from spoil import NAN, Case, cell, column, content, cut_short, flipped, nothing, table

JUDGE = ("evaluate", "given/scores.parquet")
CSV = ("evaluate", "given/scores.csv")

CASES = {
    "no file": Case(nothing, ("evaluate", "nowhere.parquet"), "there is no such file"),
    "a folder": Case(nothing, ("evaluate", "given"), "there is no such file"),
    "cut short": Case(content("given/scores.parquet", cut_short), JUDGE, "cannot be read"),
    "flipped bits": Case(content("given/scores.parquet", flipped), JUDGE, "cannot be read"),
    "an empty file": Case(content("given/scores.csv", b""), CSV, "cannot be read"),
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
    "labels of other rows": Case(
        table("interactions", lambda t: t.head(9)), (*JUDGE, "--labels", "given/interactions.parquet"), "180 and 9 rows, 9 of them in both"
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_scores_that_cannot_be_judged_are_refused(refused, case):
    refused(case)


def test_the_control_is_sound(command):
    assert command(*JUDGE)[0] == 0
