"""Lists that stand in one cell."""

import json

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkrec.data.readers.lists import split_lists

WORDS = st.lists(st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda word: word == word.strip()), min_size=1)


def split(cell, separator="|"):
    return split_lists(pl.Series([cell], dtype=pl.String), separator).to_list()[0]


@pytest.mark.parametrize(
    ("cell", "separator", "words"),
    [
        ("Drama|Crime", "|", ["Drama", "Crime"]),
        ("Drama & Co, Crime & Co", ", ", ["Drama & Co", "Crime & Co"]),
        ("Drama & Co,Crime & Co", ", ", ["Drama & Co,Crime & Co"]),
        ("Drama | Crime||", "|", ["Drama", "Crime"]),
        ('["Drama", "Crime"]', "|", ["Drama", "Crime"]),
        ("['Drama', 'Crime']", "|", ["Drama", "Crime"]),
        ("[Drama]|[Crime]", "|", ["[Drama]", "[Crime]"]),
        ("[__import__('os').abort()]", "|", ["[__import__('os').abort()]"]),
        ("Drama Crime", None, ["Drama Crime"]),
        ("[]", "|", None),
        ("|", "|", None),
        (None, "|", None),
    ],
)
def test_words_of_a_cell(cell, separator, words):
    assert split(cell, separator) == words


@given(WORDS, st.sampled_from([json.dumps, repr]))
def test_a_list_that_json_or_python_writes_is_read_back(words, write):
    assert split(write(words)) == words
