"""The words of the planted world: facets, opaque titles, and descriptions that show an item's facets among things that do not matter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

FACETS = (
    "noir", "heist", "desert", "robots", "dragons", "courtroom", "pirates", "vampires", "western", "submarine", "circus", "samurai",
    "espionage", "wedding", "zombies", "boxing", "jungle", "hackers", "royalty", "aliens", "orchestra", "prison", "arctic", "detective",
    "gladiators", "witches", "racing", "island", "ghosts", "kitchen", "chess", "volcano", "monastery", "dinosaurs", "casino", "ballet",
    "lighthouse", "gangsters", "wizards", "trains", "football", "carnival", "hospital", "mutiny", "satire", "revenge", "puzzles",
    "folklore",
)  # fmt: skip
DISTRACTORS = (
    "lanterns", "velvet", "copper", "gardens", "bicycles", "umbrellas", "marble", "sparrows", "ribbons", "chestnuts", "postcards",
    "bridges", "candles", "mirrors", "clocks", "orchards", "blankets", "sunflowers", "teapots", "violets", "staircases", "curtains",
    "pebbles", "ladders", "notebooks", "meadows", "buttons", "feathers", "windmills", "fountains", "baskets", "balconies", "almonds",
    "kites", "tulips", "thimbles", "porcelain", "hammocks", "sandals", "pigeons",
)  # fmt: skip
OPENINGS = (
    "A new title from a small house.", "Part of a long series.", "Now in a second edition.", "First shown last season.",
    "Made by a team of four.", "Back after many years.",
)  # fmt: skip
FIRST = ("It opens with {}.", "It begins among {}.", "There is much of {}.", "You will find {}.")
SECOND = ("Later come {}.", "Then it turns to {}.", "The rest is {}.", "It ends on {}.")
CLOSINGS = (
    "Comes with the usual notes.", "Suitable for most shelves.", "Ships in a plain box.", "Terms and conditions apply.",
    "See the back for details.", "Ask for it by name.",
)  # fmt: skip
CONSONANTS = "bdfgklmnprstvz"
VOWELS = "aeiou"


def make_titles(num_titles: int, rng: np.random.Generator) -> list[str]:
    """Unique titles of two invented words, such as "Velmo Tarik"; they say nothing about the item."""
    titles: dict[str, None] = {}
    while len(titles) < num_titles:
        titles[f"{_invent(rng)} {_invent(rng)}"] = None
    return list(titles)


def describe(facets: Sequence[str], rng: np.random.Generator) -> str:
    """A description that names every facet once, in random order, among 3 to 5 distractors and boilerplate."""
    distractors = rng.choice(DISTRACTORS, size=rng.integers(3, 6), replace=False)
    words = [str(word) for word in rng.permutation([*facets, *distractors])]
    middle = len(words) // 2
    body = [str(rng.choice(FIRST)).format(_listed(words[:middle])), str(rng.choice(SECOND)).format(_listed(words[middle:]))]
    return " ".join([str(rng.choice(OPENINGS)), *body, str(rng.choice(CLOSINGS))])


def _invent(rng: np.random.Generator) -> str:
    while True:
        letters = [str(rng.choice(list(part))) for part in (CONSONANTS, VOWELS, CONSONANTS, CONSONANTS, VOWELS)]
        word = "".join(letters) + (str(rng.choice(list(CONSONANTS))) if rng.random() < 0.5 else "")
        if word not in FACETS and word not in DISTRACTORS:
            return word.capitalize()


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
