"""The raters' sheet holds what it must and no more, and agreement is what a textbook says."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import polars as pl
import pytest

from thinkrec.errors import DataError, MissingFileError
from thinkrec.evaluate import raters

EVIL = '</pre><script>alert("x")</script>'


@pytest.fixture
def traces(tmp_path) -> Path:
    rows = range(9)
    pl.DataFrame(
        {
            "row": rows,
            "user_id": [f"u{n}" for n in rows],
            "attempt": [n % 2 for n in rows],
            "hinted": [False] * 9,
            "verdict": [n % 2 for n in rows],
            "text": [EVIL, "=1+1", *(f"because {n}" for n in range(2, 9))],
            "finish_reason": ["stop"] * 9,
            "num_tokens": [3] * 9,
            "teacher": ["secret-teacher"] * 9,
            "model": ["h"] * 9,
            "prompt": ["p"] * 9,
            "seed": [1] * 9,
        }
    ).write_parquet(tmp_path / "traces.parquet")
    pl.DataFrame({"row": rows, "teacher": ["secret-teacher"] * 9, "prompt": [f"prompt of {n}" for n in rows]}).write_parquet(
        tmp_path / "questions.parquet"
    )
    return tmp_path


def test_a_sample_is_drawn_once_for_all_raters(traces):
    rows = raters.draw(traces, 5, seed=3)
    assert rows.equals(raters.draw(traces, 5, seed=3))
    assert not rows.equals(raters.draw(traces, 5, seed=4))
    assert rows.height == rows["trace"].n_unique() == 5
    assert raters.draw(traces, 100, seed=3).height == 9
    row = raters.draw(traces, 9, seed=0).row(by_predicate=pl.col("trace") == "3", named=True)
    assert row == {"trace": "3", "prompt": "prompt of 3", "text": "because 3", "verdict": "Yes"}


def test_the_page_is_blind_and_safe(traces):
    page = raters.sheet_html(raters.draw(traces, 9, seed=0))
    assert page.count("<fieldset") == 9
    assert page.count('type="radio"') == 9 * 3 * 5
    assert "secret-teacher" not in page
    assert EVIL not in page
    assert page.count("<script>") == 1  # ours
    assert "default-src 'none'" in page
    assert not re.search(r"(src|href)=.https?:", page)


def test_the_sheet_is_csv_and_runs_nothing(traces):
    rows = {row["trace"]: row for row in csv.DictReader(io.StringIO(raters.sheet_csv(raters.draw(traces, 9, seed=0))))}
    assert rows["1"]["text"] == "'=1+1"
    assert rows["0"]["text"] == EVIL
    assert {rows["2"][question] for question in raters.RATING_QUESTIONS} == {""}


def test_no_traces_is_a_clear_error(traces):
    pl.read_parquet(traces / "traces.parquet").head(0).write_parquet(traces / "traces.parquet")
    with pytest.raises(DataError, match="no accepted trace"):
        raters.draw(traces, 5, seed=0)


def sheet(folder: Path, name: str, marks: list[str], bias: str = "5") -> Path:
    lines = [f"{n}-0,{mark},{mark},{bias}" for n, mark in enumerate(marks)]
    (folder / name).write_text("\n".join(["trace,relevance,coherence,bias", *lines]) + "\n")
    return folder / name


def test_agreement_is_krippendorffs(tmp_path):
    """Krippendorff's own example (2011, Computing Krippendorff's Alpha-Reliability, section C), ordinal alpha .815."""
    observers = [
        "123321412***",
        "1233224125*3",
        "*3332342251*",
        "12332441251*",
    ]
    files = [sheet(tmp_path, f"{n}.csv", [mark.replace("*", "") for mark in marks]) for n, marks in enumerate(observers)]
    found = raters.agreement(files)
    assert found["relevance"]["alpha"] == pytest.approx(0.815, abs=5e-4)
    assert found["relevance"]["num_traces"] == 11  # the last has one mark
    assert found["bias"] == {"alpha": None, "num_traces": 12, "mean": 5.0}


def test_raters_who_contradict_each_other_do_not_agree(tmp_path):
    files = [sheet(tmp_path, "a.csv", list("12345" * 4)), sheet(tmp_path, "b.csv", list("54321" * 4))]
    assert raters.agreement(files)["relevance"]["alpha"] < 0
    same = [sheet(tmp_path, "a.csv", list("12345" * 4)), sheet(tmp_path, "b.csv", list("12345" * 4))]
    assert raters.agreement(same)["relevance"]["alpha"] == 1.0


@pytest.mark.parametrize(("mark", "why"), [("6", "'6' is not a mark"), ("good", "is not a mark"), ("2.5", "is not a mark")])
def test_what_is_no_mark_is_named_with_its_row(tmp_path, mark, why):
    files = [sheet(tmp_path, "a.csv", ["1", mark, "3"]), sheet(tmp_path, "b.csv", ["1", "2", "3"])]
    with pytest.raises(DataError, match=why) as refused:
        raters.agreement(files)
    assert refused.value.where.endswith("a.csv, row 3")


def test_sheets_that_cannot_be_compared_are_refused(tmp_path):
    one = sheet(tmp_path, "a.csv", ["1", "2"])
    with pytest.raises(DataError, match="two raters"):
        raters.agreement([one])
    with pytest.raises(MissingFileError):
        raters.agreement([one, tmp_path / "none.csv"])
    with pytest.raises(DataError, match="no trace has two marks"):
        raters.agreement([one, sheet(tmp_path, "b.csv", ["", ""])])
    with pytest.raises(DataError, match="one sheet is named twice"):
        raters.agreement([one, tmp_path / "." / "a.csv"])
    (tmp_path / "c.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="has the columns"):
        raters.agreement([one, tmp_path / "c.csv"])
    (tmp_path / "d.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not CSV"):
        raters.agreement([one, tmp_path / "d.csv"])


@pytest.mark.parametrize(("line", "why"), [("1-0,2,2,5", "'1-0' occurs in more than one row"), (",2,2,5", "marks and no trace")])
def test_a_trace_is_marked_once_a_sheet(tmp_path, line, why):
    files = [sheet(tmp_path, "a.csv", ["1", "2"]), sheet(tmp_path, "b.csv", ["1", "2"])]
    files[0].write_text(files[0].read_text() + ",,,\n" + line + "\n")
    with pytest.raises(DataError, match=why) as refused:
        raters.agreement(files)
    assert refused.value.where.endswith("a.csv, row 5")


def test_empty_lines_of_a_spreadsheet_are_no_rows_and_other_forms_of_traces_are_hinted_at(tmp_path):
    files = [sheet(tmp_path, "a.csv", ["1", "2", "3"]), sheet(tmp_path, "b.csv", ["1", "2", "2"])]
    plain = raters.agreement(files)
    files[0].write_text(files[0].read_text() + ",,,\n , ,,\n")
    assert raters.agreement(files) == plain
    files[1].write_text(files[1].read_text().replace("-0,", "-0 ,"))  # blanks about a trace are nobody's
    assert raters.agreement(files) == plain
    for file, form in zip(files, ("7", "7.0"), strict=True):
        file.write_text(f"trace,relevance,coherence,bias\n{form},1,1,1\n")
    with pytest.raises(DataError, match=r"'7' and '7\.0' differ in form only"):
        raters.agreement(files)
