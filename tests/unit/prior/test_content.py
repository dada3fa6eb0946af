"""What is read of items, and what is left out where the data lacks it."""

from __future__ import annotations

import numpy as np
import pytest

from thinkrec.prior.content import MAX_KEYWORDS, YEARS_APART, keyword_columns, read_content, word_columns, year_columns, years

TEXTS = [f"the {'sea' if n % 2 else 'war'} of number {n}" for n in range(20)]


def test_years_end_titles():
    np.testing.assert_array_equal(years(["A (1999)", "B (2001) ", "C", "(1950) D (2003)"]), [1999, 2001, 2001, 2003])
    assert years(["A (1999)", "B", "C"]) is None
    assert years([]) is None


def test_near_years_are_alike():
    known = np.array([1950.0, 1990.0, 1991.0, 1991.0])
    near = year_columns(known, 4)
    np.testing.assert_allclose(near @ near.T, np.exp(-np.abs(known[:, None] - known) / YEARS_APART), atol=1e-12)


def test_keywords_are_one_hot_of_length_1():
    found = keyword_columns([["a", "b"], ["b"], []])
    np.testing.assert_allclose((found**2).sum(1), [1, 1, 0])
    assert found[0] @ found[1] == pytest.approx(np.sqrt(0.5))
    assert keyword_columns([[str(n)] for n in range(200)]).shape == (200, MAX_KEYWORDS)


def test_words_tell_texts_apart():
    found = word_columns(TEXTS, 0)
    like, unlike = found[0] @ found[2], found[0] @ found[1]
    assert like > 0.9
    assert unlike < 0.5


@pytest.mark.parametrize("texts", [[None] * 5, [""] * 5, ["once", "upon", "a"], []])
def test_without_words_there_is_no_column(texts):
    assert word_columns(texts, 0).shape == (len(texts), 0)


def test_what_the_data_lacks_is_left_out():
    content = read_content(["A", "B"], [None, None], [[], []], 0)
    assert content.matrix().shape == (2, 0)
    assert not content.year.any()
