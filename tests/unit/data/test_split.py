"""One time cut for all users."""

import numpy as np
import polars as pl
import pytest

from thinkrec.config.data import SplitSection
from thinkrec.data.split import Begins, Cuts, Span, assign, count_times, find_cuts, iso, refuse_no_split, refuse_splits
from thinkrec.errors import ConfigError, DataError

DAY_MS = 86_400_000


def rows(times: list[int], **columns: list[object]) -> pl.DataFrame:
    return pl.DataFrame({"row": range(len(times)), "ts": times} | columns)


def splits(frame: pl.DataFrame, **settings: object) -> list[str]:
    """Split as `ingest` does, whose buckets are stretches of the rows here."""
    chosen, cuts = SplitSection(**settings), None
    if chosen.mode == "given":
        refuse_no_split(frame.columns)
    else:
        times = frame["ts"].to_numpy()
        cuts = find_cuts(Span(len(times), times.min(), times.max()), lambda window: count_times(times, window), chosen)
    assigned = [assign(part, cuts) for part in frame.iter_slices(2)]
    refuse_splits(sum(map(Begins.of, assigned), start=Begins()), cuts)
    return pl.concat(assigned)["split"].to_list()


def test_quantiles_cut_by_rows_whatever_their_order():
    times = [7, 3, 9, 1, 5, 0, 8, 2, 6, 4]
    found = splits(rows(times), valid_quantile=0.6, test_quantile=0.8)
    assert found == ["train" if ts < 6 else "valid" if ts < 8 else "test" for ts in times]


@pytest.mark.parametrize("spread", [1, 10**3, 10**7, 4 * 10**12])
def test_counting_finds_the_very_time_of_a_rank(spread):
    times = np.random.default_rng(spread).integers(0, spread, 1000)
    for share in (0.0, 0.137, 0.5, 0.999):
        cuts = find_cuts(
            Span(1000, times.min(), times.max()),
            lambda window: count_times(times, window),
            SplitSection(valid_quantile=share, test_quantile=1.0),
        )
        assert cuts == Cuts(np.sort(times)[int(share * 1000)], times.max() + 1)


def test_ties_at_a_cut_go_to_the_later_side():
    found = splits(rows([0, 1, 1, 1, 2, 3, 3, 3]), valid_quantile=0.4, test_quantile=0.8)  # ranks 3 and 6 lie inside runs of equal times
    assert found == ["train", *["valid"] * 4, *["test"] * 3]


def test_dates_are_utc_and_begin_a_split():
    times = [0, DAY_MS - 1, DAY_MS, 2 * DAY_MS - 1, 2 * DAY_MS]
    dates = {"valid_from": "1970-01-02", "test_from": "1970-01-03T01:00:00+01:00"}
    assert splits(rows(times), **dates) == ["train", "train", "valid", "valid", "test"]


def test_a_date_and_a_quantile_may_stand_together():
    times = [day * DAY_MS for day in range(10)]
    assert splits(rows(times), valid_from="1970-01-03", test_quantile=0.9) == ["train"] * 2 + ["valid"] * 7 + ["test"]


def test_an_empty_split_is_named_with_the_cuts():
    with pytest.raises(DataError, match="the valid split is empty") as caught:
        splits(rows([0, 1, 2, 2, 2, 2]), valid_quantile=0.5, test_quantile=0.8)
    assert iso(2) in caught.value.where
    with pytest.raises(DataError, match="the train split is empty"):
        splits(rows([0, 1, 2]), valid_quantile=0.0)
    with pytest.raises(DataError, match="the test split is empty"):
        splits(rows([0, 1, 2]), valid_quantile=0.4, test_quantile=1.0)


def test_cuts_out_of_order_and_dates_that_are_none_are_refused():
    with pytest.raises(ConfigError, match="after test"):
        splits(rows([0, 1, 2, 3]), valid_quantile=0.9, test_quantile=0.2)
    with pytest.raises(ConfigError) as caught:
        splits(rows([0, 1, 2]), valid_from="last May")
    assert caught.value.where == "split.valid_from"


def test_a_given_split_is_kept():
    given = ["test", "train", "valid"]
    assert splits(rows([0, 1, 2], split=given), mode="given") == given


def test_a_time_split_takes_the_place_of_a_given_one():
    assert splits(rows([0, 1, 2], split=["test", "train", "valid"]), valid_quantile=0.4, test_quantile=0.7) == ["train", "valid", "test"]


def test_a_given_split_must_be_there_be_known_and_be_whole():
    with pytest.raises(DataError, match="no column 'split'"):
        splits(rows([0]), mode="given")
    with pytest.raises(DataError, match="'dev'") as caught:
        splits(rows([0, 1], split=["train", "dev"]), mode="given")
    assert caught.value.where == "interactions: split of row 1"
    with pytest.raises(DataError, match="1 rows are in none"):
        splits(rows([0, 1], split=["train", None]), mode="given")
    with pytest.raises(DataError, match="the test split is empty"):
        splits(rows([0, 1], split=["train", "valid"]), mode="given")
