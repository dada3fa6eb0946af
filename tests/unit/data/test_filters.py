"""Which rows a run takes, and what it says of the others."""

import numpy as np
import polars as pl
import pytest

from thinkrec.config.data import DataSection
from thinkrec.data.filters import active, refuse_nothing_left, select
from thinkrec.errors import ConfigError, DataError

DAY_MS = 86_400_000
ROWS = pl.DataFrame(
    {
        "row": [0, 1, 2, 3, 4],
        "user_id": ["a", "a", "a", "b", "a"],
        "item": [0, 1, 0, 0, 0],
        "ts": [3 * DAY_MS, 1 * DAY_MS, 2 * DAY_MS, 2 * DAY_MS, 2 * DAY_MS],
    }
)


def taken(min_rows: int = 0, **settings) -> tuple[list[int], dict[str, int]]:
    """Rows in their order, and how many each rule left out, if any."""
    rows, left_out = select(ROWS, DataSection(**settings))
    if min_rows:
        rows, too_few = active(rows, np.bincount(rows["item"], minlength=2), min_rows)
        left_out |= too_few
    refuse_nothing_left(len(rows), left_out)
    return rows["row"].sort().to_list(), {rule: number for rule, number in left_out.items() if number}


def test_by_default_every_row_is_taken():
    assert taken() == ([0, 1, 2, 3, 4], {})


def test_a_window_begins_with_its_first_day_and_ends_before_its_last():
    assert taken(since="1970-01-03", before="1970-01-04") == ([2, 3, 4], {"outside data.since and data.before": 2})


@pytest.mark.parametrize(("keep", "rows"), [("first", [1, 2, 3]), ("last", [0, 1, 3])])
def test_one_row_a_user_and_item_by_time_then_row(keep, rows):
    assert taken(repeats=keep) == (rows, {"repeats of a user and item": 2})


def test_activity_is_counted_once_for_users_and_items_together():
    """Row 1 leaves with item 1; a is judged by all its rows (D27)."""
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
