"""Every planted leak of the log is found by the check that is meant for it, and clean data passes all of them."""

import polars as pl
import pytest

from thinkrec.data.audit.log import PAIR_CHECKS, TEXT_CHECKS, TIME_CHECKS, Finding, Suspects, add, enforce
from thinkrec.data.audit.log import audit as audit_users
from thinkrec.data.split import Begins
from thinkrec.errors import LeakError

CLEAN = [
    ("a", "x", 10, "train"),
    ("a", "y", 20, "train"),
    ("b", "x", 20, "train"),
    ("a", "z", 30, "valid"),
    ("b", "y", 31, "valid"),
    ("a", "w", 40, "test"),
    ("b", "z", 40, "test"),  # two users at one time within a split are no tie across a cut
]


def table(*changes: tuple[int, tuple[str, str, int, str]]) -> pl.DataFrame:
    """CLEAN with rows replaced, or appended at index len(CLEAN)."""
    rows = list(CLEAN)
    for at, row in changes:
        rows[at : at + 1] = [row]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "ts", "split"], orient="row")
    return frame.with_row_index("row").with_columns(label=pl.lit(1))


def items(**changes: dict[str, object]) -> pl.DataFrame:
    """Items with a title each and texts written before everything; changes by column: {item_id: value}."""
    ids = ["x", "y", "z", "w"]
    columns = {"item_id": ids, "title": [i.upper() for i in ids], "text": [None] * 4, "ts": [0, 5, None, 9]}
    for name, values in changes.items():
        columns[name] = [values.get(i, old) for i, old in zip(ids, columns[name], strict=True)]
    return pl.DataFrame(columns, schema={"item_id": pl.String, "title": pl.String, "text": pl.String, "ts": pl.Int64})


def audit(frame: pl.DataFrame, texts: pl.DataFrame) -> list[Finding]:
    """What the audit finds in the users of two buckets, together."""
    suspects = Suspects.of(texts, Begins.of(frame).first_ts)
    mine = pl.col("user_id") == "a"
    return add(audit_users(frame.filter(mine), suspects), audit_users(frame.filter(~mine), suspects))


def failed(frame: pl.DataFrame, texts: pl.DataFrame | None = None) -> dict[str, list[int]]:
    """Rows by failed check."""
    findings = audit(frame, items() if texts is None else texts)
    return {finding.check: [row["row"] for row in finding.examples] for finding in findings if finding.num_rows}


def test_clean_data_passes_every_check():
    findings = audit(table(), items())
    assert len(findings) == len(TIME_CHECKS + PAIR_CHECKS + TEXT_CHECKS) == 7
    assert not failed(table())
    assert not failed(table(), items().drop("ts"))
    assert all(finding.meaning and finding.fix and finding.severity in ("stop", "warn") for finding in findings)
    assert enforce(findings, allow=False) == []


@pytest.mark.parametrize(
    ("at", "row", "expected"),
    [
        (1, ("a", "y", 35, "train"), {"later_than_the_next_split": [1]}),
        (3, ("a", "z", 45, "valid"), {"later_than_the_next_split": [3]}),
        (1, ("a", "y", 30, "train"), {"tie_across_a_cut": [1]}),
        (4, ("b", "y", 40, "valid"), {"tie_across_a_cut": [4]}),
        (5, ("a", "x", 40, "test"), {"pair_in_two_splits": [0, 5], "target_in_its_history": [5]}),
        (1, ("a", "x", 20, "train"), {"target_in_its_history": [1]}),
        (1, ("a", "x", 10, "train"), {"doubled_row": [0, 1], "target_in_its_history": [1]}),
        (7, ("b", "z", 40, "test"), {"doubled_row": [6, 7], "target_in_its_history": [7]}),
    ],
)
def test_a_planted_leak_is_found_where_it_is(at, row, expected):
    assert failed(table((at, row))) == expected


def test_a_missing_valid_split_does_not_hide_a_late_train_row():
    frame = table((1, ("a", "y", 45, "train"))).filter(pl.col("split") != "valid")
    assert failed(frame) == {"later_than_the_next_split": [1]}


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ({"x": 30}, [0, 2]),  # of train, and written when valid has begun
        ({"x": 29}, []),
        ({"z": 40}, [3]),  # of valid, written when test has begun; its own test row is of that time, no earlier
        ({"z": 39}, []),
        ({"z": 41}, [3, 6]),
        ({"w": 40}, []),
    ],
)
def test_a_text_of_the_future_is_found(written, found):
    assert failed(table(), items(ts=written)) == ({"text_of_the_future": found} if found else {})


def test_one_item_under_two_ids_is_a_warning():
    twins = items(title={"x": "Same", "w": "Same"})
    assert failed(table(), twins) == {"item_under_two_ids": [0, 5]}  # a meets x in train, w in test; b meets x alone
    assert failed(table(), items(title={"x": "Same", "w": "Same"}, text={"w": "another edition"})) == {}
    assert failed(table(), items(title={"x": "Same", "y": "Same"})) == {"item_under_two_ids": [2, 4]}  # a meets both in one split: no leak
    (line,) = enforce(audit(table(), twins), allow=False)
    assert line.startswith("perhaps a leak: item_under_two_ids: 2 rows.")


def test_all_rows_count_and_three_are_shown():
    frame = table(*[(7 + n, ("c", f"i{n}", 35, "train")) for n in range(5)])
    late = audit(frame, items())[0]
    assert (late.num_rows, len(late.examples)) == (5, 3)


def test_leaks_stop_the_run_unless_allowed():
    findings = audit(table((5, ("a", "x", 40, "test"))), items())
    with pytest.raises(LeakError) as caught:
        enforce(findings, allow=False)
    assert "pair_in_two_splits: 2 rows" in caught.value.what
    assert "target_in_its_history: 1 rows" in caught.value.what
    assert "'user_id': 'a'" in caught.value.what
    assert "Fix: keep one row of each user and item" in caught.value.what
    assert caught.value.exit_code == 2
    assert [line.partition(": ")[0] for line in enforce(findings, allow=True)] == ["leak allowed"] * 2


def test_what_is_only_a_warning_never_stops():
    enforce([Finding("some_check", "warn", "Meaning.", "fix", 9, [{"row": 1}])], allow=False)
    with pytest.raises(LeakError):
        enforce([Finding("some_check", "stop", "Meaning.", "fix", 9, [{"row": 1}])], allow=False)
