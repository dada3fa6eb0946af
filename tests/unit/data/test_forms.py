"""Ids that differ in form only are told from ids that differ."""

from __future__ import annotations

import polars as pl
import pytest

from thinkrec.data.forms import in_other_form, in_two_forms

SAME = ["7", "7.0", "7.00", "007", " 7", "7\t", "'7'", '"7"', "b'7'", "\u00a07", "\ufeff7", "\uff17"]


@pytest.mark.parametrize("form", SAME[1:])
def test_an_id_is_found_in_another_form(form):
    assert in_other_form(pl.Series(["7"]), [pl.Series(["8"]), pl.Series([form])]) == [("7", form)]
    assert in_two_forms(pl.Series(["7", "8", form])) == [tuple(sorted(["7", form]))]


def test_case_and_spelling_of_letters_are_form_too():
    assert in_other_form(pl.Series(["User\u00e9"]), [pl.Series(["usere\u0301"])]) == [("User\u00e9", "usere\u0301")]


@pytest.mark.parametrize("other", ["70", "7.5", "-7", "u7", "7a", "0.7", "7.0.0", ""])
def test_ids_that_differ_are_not_taken_for_one(other):
    assert in_other_form(pl.Series(["7"]), [pl.Series([other])]) == []
    assert in_two_forms(pl.Series(["7", other, other])) == []


def test_an_id_that_is_there_as_it_is_has_no_other_form():
    assert in_other_form(pl.Series(["7", "8", None]), [pl.Series(["07"]), pl.Series(["7", None])]) == []
    assert in_other_form(pl.Series([], dtype=pl.String), [pl.Series(["7"])]) == []
