"""Keywords out of an item's text: the prompt, the strict reading of an answer, and the grounding check (D28).

A keyword is grounded if the text says it, or entails it by a word's other form or a synonym: "war" by "wars" or "warfare". Synonyms are
those of any sense, so an entailed keyword is a weaker thing than a found one, and both are counted.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from thinkrec.config.generation import KeywordsSection
from thinkrec.config.run import Config
from thinkrec.text.phrases import normal, occurs, words
from thinkrec.text.wordnet.table import WordNet

MAX_KEYWORD_WORDS = 4
INSTRUCTION = (
    "Name up to ten keywords of this text in its own words, the most telling first, separated by commas.\n"  # to models not taught here
)
SWAP_SHARE = 0.2  # of the words that are no keywords
MIN_LETTERS = 4  # of a telling word
MIN_TEXTS = 5  # that share it
MAX_TEXT_SHARE = 0.02  # of the texts
MAX_TELLING = 5  # of one text


def is_taught(config: Config) -> bool:
    """Whether the run teaches an extractor of its own."""
    return (config.keywords.source, config.keywords.extractor) == ("engine", "nano") and config.engine.kind != "http"


def write_prompt(text: str, max_words: int, instruction: str = "") -> str:
    """The question about one text; the answer goes on with the keywords, separated by commas."""
    return f"{instruction}Text: {' '.join(text.split()[:max_words])}\nKeywords:"


def write_answer(keywords: Sequence[str]) -> str:
    return f" {', '.join(keywords)}"


def parse(answer: str, complete: bool, stop_words: Iterable[str] = ()) -> list[str]:
    """The cleaned keywords of the first line; an answer that was cut short loses its last one, which may be half a word."""
    lines = answer.strip().splitlines()
    parts = lines[0].split(",") if lines else []
    return clean(parts if complete else parts[:-1], stop_words)


def clean(keywords: Iterable[str], stop_words: Iterable[str] = ()) -> list[str]:
    """Lower case, single blanks, no quotes or full stops around, no stop words; in order, each once: "Sci-Fi" and "sci fi" are one."""
    cleaned = (" ".join(keyword.split()).strip(" .;:\"'").lower() for keyword in keywords)
    first: dict[str, str] = {}
    for keyword in cleaned:
        first.setdefault(normal(keyword), keyword)
    refused = {"", *map(normal, stop_words)}
    return [keyword for form, keyword in first.items() if form not in refused]


def ground(keywords: Iterable[str], text: str, wordnet: WordNet | None = None) -> tuple[list[str], dict[str, str]]:
    """The keywords that may stay, and for each of the others the reason why not; without `wordnet` the text must say them."""
    reasons = {keyword: refusal(keyword, text, wordnet) for keyword in keywords}
    return [keyword for keyword, why in reasons.items() if not why], {keyword: why for keyword, why in reasons.items() if why}


def refusal(keyword: str, text: str, wordnet: WordNet | None = None) -> str:
    """Why this is no keyword of an item with this text; empty if it is one."""
    if len(keyword.split()) > MAX_KEYWORD_WORDS:
        return f"more than {MAX_KEYWORD_WORDS} words"
    return "" if occurs(keyword, text) or (wordnet and entails(text, keyword, wordnet)) else "not in the text"


def entails(text: str, keyword: str, wordnet: WordNet) -> bool:
    """Whether words that mean those of `keyword` stand in `text` side by side."""
    meant, found = words(keyword), words(text)
    windows = zip(*(found[start:] for start in range(len(meant))), strict=False)
    return any(all(map(wordnet.means, window, meant)) for window in windows) if meant else False


def lesson(text: str, categories: Sequence[str], settings: KeywordsSection) -> list[str]:
    """What an annotated item teaches: its grounded categories in the order of the alphabet, the one a small model learns best."""
    shown = " ".join(text.split()[: settings.max_words])
    kept, _ = ground(clean(categories, settings.stop_words), shown)
    return sorted(kept)[: settings.max_per_item]


def telling_words(texts: Sequence[str], settings: KeywordsSection) -> list[list[str]]:
    """The rarest words that each text shares with others, in the order of the alphabet: neither a name of its own nor what all say."""
    shown = [list(dict.fromkeys(words(" ".join(text.split()[: settings.max_words])))) for text in texts]
    count = Counter(word for text in shown for word in text if len(word) >= MIN_LETTERS and word.isalpha())
    most, refused = MAX_TEXT_SHARE * len(texts), {*map(normal, settings.stop_words)}
    shared = {word for word, num_texts in count.items() if MIN_TEXTS <= num_texts <= most} - refused
    return [sorted(sorted(shared.intersection(text), key=lambda word: (count[word], word))[:MAX_TELLING]) for text in shown]


class Variations:
    """Endless lessons from few: other keywords in the same places, and some other words, so that no text can be learned by heart."""

    def __init__(self, lessons: Sequence[tuple[str, Sequence[str]]], seed: int) -> None:
        self._random = random.Random(seed)
        self._keywords = sorted({keyword for _, keywords in lessons for keyword in keywords})
        inside = {word for keyword in self._keywords for word in words(keyword)}
        self._others = sorted({word for text, _ in lessons for word in words(text)} - inside)

    def draw(self, text: str, keywords: Sequence[str]) -> tuple[str, list[str]]:
        """A variation of one lesson (text, keywords)."""
        new = dict(zip(map(normal, keywords), self._random.sample(self._keywords, len(keywords)), strict=True))
        phrases = sorted((r"\W+".join(map(re.escape, key.split())) for key in new), key=len, reverse=True)

        def swap(match: re.Match[str]) -> str:
            word = match.group()
            if normal(word) in new:
                return new[normal(word)]
            return self._random.choice(self._others) if self._others and self._random.random() < SWAP_SHARE else word

        pattern = "|".join([*(rf"\b{phrase}\b" for phrase in phrases), r"\w+"])
        return re.sub(pattern, swap, text, flags=re.IGNORECASE), sorted(new.values())
