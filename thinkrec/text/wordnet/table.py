"""English synonyms for METEOR and for keywords, without a download: a table of WordNet 3.0 (see LICENSE beside it) that answers like NLTK.

METEOR asks only for the single-word synonyms of a word. So the table holds the single-word lemmas of each synset and the irregular forms,
and looks inflected words up by the rules of morphy(7WN). Unlike NLTK's reader it does not know what an underscore joins ("comic_strip").
"""

from __future__ import annotations

import gzip
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.resources import files

SYNSETS, EXCEPTIONS = "synsets.txt.gz", "exceptions.txt.gz"  # lines "pos word word ..." and "pos inflected base ..."
PARTS_OF_SPEECH = "nvar"  # noun, verb, adjective, adverb
SUFFIXES = {
    "n": (("s", ""), ("ses", "s"), ("ves", "f"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"), ("men", "man"), ("ies", "y")),
    "v": (("s", ""), ("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", "")),
    "a": (("er", ""), ("est", ""), ("er", "e"), ("est", "e")),
    "r": (),
}


@dataclass(frozen=True, slots=True)
class Lemma:
    """One word of a synset, with the method NLTK asks for."""

    word: str

    def name(self) -> str:
        return self.word


@dataclass(frozen=True, slots=True)
class Synset:
    """Words of one meaning; nearly all of more than one word are left out."""

    words: tuple[str, ...]

    def lemmas(self) -> list[Lemma]:
        return [Lemma(word) for word in self.words]


class WordNet:
    """What `nltk.translate.meteor_score` takes as `wordnet`."""

    def __init__(self, synsets: Iterable[tuple[str, list[str]]], exceptions: Iterable[tuple[str, list[str]]]) -> None:
        self._synsets: dict[tuple[str, str], list[list[str]]] = defaultdict(list)
        for pos, words in synsets:
            for word in words:
                self._synsets[pos, word.lower()].append(words)
        self._exceptions = {(pos, inflected): bases for pos, (inflected, *bases) in exceptions}

    @classmethod
    def load(cls) -> WordNet:
        """The table shipped with the package."""
        return cls(_lines(SYNSETS), _lines(EXCEPTIONS))

    def synsets(self, word: str) -> list[Synset]:
        """All synsets of a word or of what it is an inflection of."""
        forms = [(pos, form) for pos in PARTS_OF_SPEECH for form in self._forms(pos, word.lower())]
        return [Synset(tuple(words)) for key in forms for words in self._synsets.get(key, ())]

    def forms(self, word: str) -> set[str]:
        """A word in lower case and all that it may be an inflection of."""
        return {form for pos in PARTS_OF_SPEECH for form in self._forms(pos, word.lower())}

    def means(self, word: str, meant: str) -> bool:
        """Whether `word` is another form or, in any of its senses, a synonym of the word `meant`."""
        same = self.forms(meant) | {one.word.lower() for synset in self.synsets(meant) for one in synset.lemmas()}
        return bool(self.forms(word) & same)

    def _forms(self, pos: str, word: str) -> list[str]:
        bases = self._exceptions.get((pos, word))
        if bases is None:
            bases = [word.removesuffix(old) + new for old, new in SUFFIXES[pos] if word.endswith(old)]
        return list(dict.fromkeys([word, *bases]))


def _lines(name: str) -> Iterator[tuple[str, list[str]]]:
    packed = files("thinkrec.text.wordnet").joinpath(name).read_bytes()
    for line in gzip.decompress(packed).decode("ascii").splitlines():
        pos, *words = line.split()
        yield pos, words
