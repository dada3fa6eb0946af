"""Times in the forms that people have: each is read to the millisecond, or its row is refused."""

from datetime import UTC, datetime, timedelta, timezone

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkrec.data.readers.times import Clock, find_clock
from thinkrec.errors import DataError

MOMENT = datetime(2017, 7, 14, 2, 40, tzinfo=UTC)
ZONES = st.integers(-12 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
MOMENTS = st.datetimes(datetime(1970, 1, 2), datetime(2099, 12, 30), timezones=ZONES)


def millis(*texts, unit="iso"):
    return pl.DataFrame({"ts": pl.Series(texts, dtype=pl.String)}).select(Clock(unit).millis()).to_series().to_list()


def ms_of(moment):
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


@pytest.mark.parametrize(
    "text",
    [
        "2017-07-14T08:10:00+05:30",
        "2017-07-14T08:10:00+0530",
        "2017-07-13T19:40-07",
        "2017-07-14T02:40:00Z",
        "2017-07-14t02:40:00z",
        "2017-07-14T02:40Z",
        "2017-07-14 02:40",
        "2017-07-14 02:40:00",
        "2017-07-14 02:40:00 UTC",
        "2017-07-14 02:40:00 GMT",
        "2017-07-14 02:40:00 +0000",
        "2017-07-14 02:40:00.000000+00:00",
        "2017/07/14 02:40:00",
        "2017-07-14T02:40:00,000",
        " 2017-07-14 02:40:00 ",
    ],
)
def test_one_moment_in_every_form(text):
    assert millis(text) == [ms_of(MOMENT)]


def test_a_day_is_its_midnight_and_fractions_are_cut_to_milliseconds():
    assert millis("2017-07-14", "2017-07-14T00:00:00.1239") == [1499990400000, 1499990400123]


@pytest.mark.parametrize(
    "text",
    [
        "2017-04-31",
        "2017-13-01",
        "2017-07",
        "14.07.2017",
        "07/14/2017",
        "99999-01-01",
        "2017-07-14 02:40 PM",
        "2017-07-14 02:40:00 EST",
        "2017-07-14T24:00:01",
        "2017-07-14T02:40:00+25:00",
        "2017-07-14T02:40:00[Europe/Paris]",
        "yesterday",
        "",
    ],
)
def test_what_is_no_such_time_is_null(text):
    assert millis(text) == [None]


@given(st.lists(MOMENTS, min_size=1), st.sampled_from(["microseconds", "milliseconds", "seconds", "minutes"]), st.sampled_from("T "))
def test_what_python_writes_is_read_back(moments, timespec, separator):
    written = [moment.isoformat(separator, timespec) for moment in moments]
    assert millis(*written) == [ms_of(datetime.fromisoformat(text)) for text in written]


@given(st.lists(MOMENTS, min_size=1), st.sampled_from(["s", "ms", "us", "ns"]))
def test_numbers_in_every_unit_are_the_same_moment(moments, unit):
    per_s = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    written = [ms_of(moment) // 1000 * per_s for moment in moments]
    assert millis(*map(str, written), unit=unit) == [ms_of(moment) // 1000 * 1000 for moment in moments]


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ([1_500_000_000], "seconds"),
        ([1_500_000_000.5], "seconds"),
        (["1500000000123"], "milliseconds"),
        ([1_500_000_000_123_456_789], "nanoseconds"),
        (["2017-07-14T08:10:00+05:30", "1500000000"], "seconds"),  # one number among texts: the texts' rows are refused, not the file
        (["2017-07-14"], "dates and times in UTC"),
        ([MOMENT], "timestamps"),
        ([MOMENT.date()], "timestamps"),
    ],
)
def test_the_first_values_tell_the_unit(values, name):
    assert find_clock("auto", pl.Series("ts", values), "here").name == name


@pytest.mark.parametrize(
    ("values", "says"),
    [(["noon"], "neither numbers nor ISO dates"), ([20170714, 20170801], "days without dashes"), (["20170714.0"], "days without dashes")],
)
def test_what_is_no_time_is_refused_with_a_form_that_is(values, says):
    with pytest.raises(DataError, match=says) as caught:
        find_clock("auto", pl.Series("ts", values), "here")
    assert "2017-07-14" in caught.value.fix
