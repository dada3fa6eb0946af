"""Every planted leak is found by the check that is meant for it, and clean data passes all of them."""

import polars as pl
import pytest

from thinkrec.data.audit import audit, enforce
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


def failed(frame: pl.DataFrame) -> dict[str, list[int]]:
    """Rows by failed check."""
    return {finding.check: [row["row"] for row in finding.examples] for finding in audit(frame) if finding.num_rows}


def test_clean_data_passes_every_check():
    findings = audit(table())
    assert len(findings) == 5
    assert not failed(table())
    assert all(finding.meaning for finding in findings)
    enforce(findings, allow=False)


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


def test_all_rows_count_and_three_are_shown():
    frame = table(*[(7 + n, ("c", f"i{n}", 35, "train")) for n in range(5)])
    late = audit(frame)[0]
    assert (late.num_rows, len(late.examples)) == (5, 3)


def test_leaks_stop_the_run_unless_allowed():
    findings = audit(table((5, ("a", "x", 40, "test"))))
    with pytest.raises(LeakError) as caught:
        enforce(findings, allow=False)
    assert "pair_in_two_splits: 2 rows" in caught.value.what
    assert "target_in_its_history: 1 rows" in caught.value.what
    assert "'user_id': 'a'" in caught.value.what
    assert caught.value.exit_code == 2
    enforce(findings, allow=True)
