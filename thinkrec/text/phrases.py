"""Words and phrases: the one meaning of "occurs in the text" for keywords, claims and checks."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

MAX_PHRASE_WORDS = 3


def words(text: str) -> list[str]:
    """Case-folded runs of letters and digits."""
    return re.findall(r"\w+", text.casefold())


def occurs(phrase: str, text: str) -> bool:
    """Whether the words of `phrase` stand in `text` side by side; "sci-fi" occurs in "a Sci Fi tale", "art" not in "party"."""
    wanted = words(phrase)
    return bool(wanted) and f" {' '.join(wanted)} " in f" {' '.join(words(text))} "


def named(text: str, vocabulary: Collection[str]) -> Iterator[str]:
    """The phrases of up to MAX_PHRASE_WORDS words of `text` that are in `vocabulary` (normal forms, see `normal`), in order."""
    found = words(text)
    for start in range(len(found)):
        for end in range(start + 1, min(start + MAX_PHRASE_WORDS, len(found)) + 1):
            phrase = " ".join(found[start:end])
            if phrase in vocabulary:
                yield phrase


def normal(phrase: str) -> str:
    """The form in which phrases are compared."""
    return " ".join(words(phrase))
