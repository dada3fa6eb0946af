"""What is written about items as columns of numbers: keywords, the year in the title, words of the text.

Whatever the data lacks is a block without columns, and nothing downstream asks whether it is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

Floats = NDArray[np.floating]

MAX_KEYWORDS = 128  # the most frequent ones
MAX_WORDS = 20_000  # of all texts
WORDS_DIM = 32
YEAR_DIM = 8
YEARS_APART = 18.0  # by which the likeness of two years falls to 1/e
YEAR = r"\((\d{4})\)\s*$"
MIN_ITEMS_WITH_YEAR = 0.5  # below this share a number in brackets is no year


@dataclass(frozen=True)
class Content:
    """Blocks of (num_items, width), width 0 where the data has none; rows of `keywords` and `words` have length 1 or 0."""

    keywords: Floats
    years: Floats  # rows whose inner products fall off with the distance of the years
    words: Floats
    year: Floats  # (num_items,) in steps of 20 years about 1980; 0 where the data has none

    def matrix(self) -> Floats:
        """All blocks side by side."""
        return np.hstack([self.keywords, self.years, self.words])


def read_content(titles: Sequence[str], texts: Sequence[str | None], keywords: Sequence[Sequence[str]], seed: int) -> Content:
    """The content of items given as aligned columns."""
    year = years(titles)
    steps = np.zeros(len(titles)) if year is None else (year - 1980) / 20
    return Content(keyword_columns(keywords), year_columns(year, len(titles)), word_columns(texts, seed), steps)


def years(titles: Sequence[str]) -> Floats | None:
    """The year that ends each title, the median where one has none; None if most have none."""
    found = pl.Series(titles, dtype=pl.String).str.extract(YEAR).cast(pl.Float64)
    if len(found) == 0 or found.count() < MIN_ITEMS_WITH_YEAR * len(found):
        return None
    return found.fill_null(found.median()).to_numpy()


def keyword_columns(keywords: Sequence[Sequence[str]]) -> Floats:
    """(num_items, <= MAX_KEYWORDS): one-hot, rows of length 1."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.preprocessing import normalize

    if not any(keywords):
        return np.zeros((len(keywords), 0))
    found = CountVectorizer(analyzer=list, binary=True, max_features=MAX_KEYWORDS, dtype=np.float64).fit_transform(keywords)
    return np.asarray(normalize(found).toarray())


def year_columns(year: Floats | None, num_items: int) -> Floats:
    """(num_items, <= YEAR_DIM): the largest parts of the kernel exp(-|years apart| / YEARS_APART)."""
    if year is None:
        return np.zeros((num_items, 0))
    known, place = np.unique(year, return_inverse=True)
    sizes, vectors = np.linalg.eigh(np.exp(-np.abs(known[:, None] - known) / YEARS_APART))
    return np.asarray((vectors * np.sqrt(np.maximum(sizes, 0)))[:, ::-1][place, :YEAR_DIM])


def word_columns(texts: Sequence[str | None], seed: int) -> Floats:
    """(num_items, <= WORDS_DIM): the largest parts of the texts' tf-idf, rows of length 1."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import normalize

    vectorizer = TfidfVectorizer(min_df=3, max_df=0.5, max_features=MAX_WORDS, stop_words="english", sublinear_tf=True)
    try:
        weights = vectorizer.fit_transform([text or "" for text in texts])
    except ValueError:  # no word stands in three texts
        return np.zeros((len(texts), 0))
    return np.asarray(normalize(TruncatedSVD(min(WORDS_DIM, *weights.shape), random_state=seed).fit_transform(weights)))
