"""Which rows a run takes, and what it says of the others."""

import polars as pl
import pytest

from thinkrec.config.data import DataSection
from thinkrec.data.filters import select
from thinkrec.errors import ConfigError, DataError

DAY_MS = 86_400_000
ROWS = pl.DataFrame(
    {
        "row": [0, 1, 2, 3, 4],
        "user_id": ["a", "a", "a", "b", "a"],
        "item_id": ["x", "y", "x", "x", "x"],
        "ts": [3 * DAY_MS, 1 * DAY_MS, 2 * DAY_MS, 2 * DAY_MS, 2 * DAY_MS],
    }
)


def taken(**settings) -> tuple[list[int], dict[str, int]]:
    rows, left_out = select(ROWS, DataSection(**settings))
    return rows["row"].to_list(), left_out


def test_by_default_every_row_is_taken():
    assert taken() == ([0, 1, 2, 3, 4], {})


def test_a_window_begins_with_its_first_day_and_ends_before_its_last():
    assert taken(since="1970-01-03", before="1970-01-04") == ([2, 3, 4], {"outside data.since and data.before": 2})


@pytest.mark.parametrize(("keep", "rows"), [("first", [1, 2, 3]), ("last", [0, 1, 3])])
def test_one_row_a_user_and_item_by_time_then_row(keep, rows):
    assert taken(repeats=keep) == (rows, {"repeats of a user and item": 2})


def test_activity_is_counted_once_for_users_and_items_together():
    """Row 1 leaves with item y; a is judged by all its rows (D27)."""
    assert taken(min_rows=4) == ([0, 2, 4], {"users and items with few rows": 2})


def test_the_window_comes_before_the_repeats():
    rows, left_out = taken(since="1970-01-03", repeats="first")
    assert rows == [2, 3]
    assert left_out == {"outside data.since and data.before": 1, "repeats of a user and item": 2}


def test_nothing_left_and_dates_that_are_none_are_named():
    with pytest.raises(DataError, match="no row is left"):
        taken(min_rows=6)
    with pytest.raises(ConfigError, match="'soon' is not an ISO date") as caught:
        taken(before="soon")
    assert caught.value.where == "data.before"
