"""Durations are said as people say them."""

from __future__ import annotations

import pytest

from thinkrec.text.duration import duration

CASES = [
    (None, "\u2013"),
    (0.4, "0.4 s"),
    (32.4, "32 s"),
    (89, "1 min 29 s"),
    (600, "10 min 0 s"),
    (3599.6, "1 h 0 min"),
    (9000, "2 h 30 min"),
]


@pytest.mark.parametrize(("seconds", "text"), CASES)
def test_no_finer_than_matters(seconds, text):
    assert duration(seconds) == text
