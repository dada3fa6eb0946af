"""What a text says about the prompt it speaks of, and whether the prompt shows it.

The one check of a teacher's traces and of the model's own explanations. It reads the text by rule; no model judges, and nothing but the
prompt and the catalogue's keywords is consulted. So it sees numbers, names and plain words of liking, and is blind to all other prose.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import pairwise

from thinkrec.prompt.template import Prompt, Template
from thinkrec.text.phrases import named, normal, occurs

CLAIM = r"([^,.;]+?) (\d+) of (\d+)"
CLAIMS = re.compile(rf"\bliked (?:with )?({CLAIM}(?:, {CLAIM})*)")
OVERALL = "overall"  # the name under which all interactions are counted
QUOTED = re.compile(r'"([^\Wa-z_][^"]*)"')  # a title, by its capital or number; other words in quotes are no names
EDGE = re.compile(r"[.;!?\n]|\b(?:but|while|whereas|however|although)\b", re.IGNORECASE)
AGAINST = re.compile(r"\b(?:dislik|hate)\w*|(?:\bnot|\bnever|n't) (?:really )?(?:lik|enjoy|lov)\w*", re.IGNORECASE)
FOR = re.compile(r"\b(?:liked|likes|loved|loves|enjoyed|enjoys)\b", re.IGNORECASE)
LEAK = re.compile(r"\b(hint|(right|correct|true) answer|ground truth|was told)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Facts:
    """What a prompt shows: (keywords, liked) of each interaction in it, the target's keywords, its whole text, and the titles it gives."""

    history: tuple[tuple[tuple[str, ...], bool], ...]
    keywords: tuple[str, ...]
    shown: str
    titles: tuple[str, ...] = ()  # of the interactions, in their order; empty where the prompt withholds them

    def count(self, keyword: str | None) -> tuple[int, int]:
        """(liked, shown) among the interactions with this keyword, or among all for None."""
        wanted = keyword and normal(keyword)
        likes = [liked for keywords, liked in self.history if wanted is None or wanted in map(normal, keywords)]
        return sum(likes), len(likes)


@dataclass(frozen=True)
class Claims:
    """How many numbers a text gives and how many are right; the keywords and titles it names, and those its prompt does not show; how many
    tastes it states (this keyword, that title was rather liked or disliked) and how many are right.

    `lean` is the number of tastes stated for a like minus those against one.
    """

    num_claims: int
    num_right: int
    unknown_keywords: tuple[str, ...]
    unknown_titles: tuple[str, ...] = ()
    num_named: int = 0
    num_tastes: int = 0
    num_tastes_right: int = 0
    lean: int = 0

    @property
    def is_grounded(self) -> bool:
        """Whether nothing of all that is wrong."""
        return not self.unknown_keywords + self.unknown_titles and (self.num_claims, self.num_tastes) == (
            self.num_right,
            self.num_tastes_right,
        )


def facts_of(template: Template, history: list[tuple[int, int]], target: int, prompt: Prompt) -> Facts:
    """The facts of `prompt`, which `template` wrote for `target` after `history`; what did not fit into it is no fact."""
    items, settings = template.items, template.settings
    fitting = history[len(history) - prompt.num_history :]
    lines = tuple((items[item].keywords if settings.keywords_in_history else (), bool(liked)) for item, liked in fitting)
    titles = tuple(items[item].title for item, _ in fitting) if settings.titles else ()
    return Facts(lines, items[target].keywords, template.text(prompt), titles)


def check_claims(text: str, facts: Facts, vocabulary: Collection[str] = ()) -> Claims:
    """Check every "noir 3 of 4" after a "liked", every taste, and every name: keywords of `vocabulary`, titles, what is in quotes."""
    counted = [(name.strip(), int(liked), int(shown)) for name, liked, shown in _counted(text)]
    names = {OVERALL: None} | {name: normal(name) for name, _, _ in counted if name != OVERALL}
    right = [(liked, shown) == _truth(facts, names[name]) for name, liked, shown in counted]
    tastes = [*_keyword_tastes([claim for claim in counted if claim[0] != OVERALL], facts), *_title_tastes(text, facts)]
    keywords = dict.fromkeys([*named(text, vocabulary), *filter(None, names.values())])
    titles = dict.fromkeys([*QUOTED.findall(text), *(title for _, title in _titles_in(text, facts))])
    return Claims(
        num_claims=len(counted),
        num_right=sum(right),
        unknown_keywords=tuple(keyword for keyword in keywords if not occurs(keyword, facts.shown)),
        unknown_titles=tuple(title for title in titles if not occurs(title, facts.shown)),
        num_named=len(keywords) + len(titles),
        num_tastes=len(tastes),
        num_tastes_right=sum(right for _, right in tastes),
        lean=sum(side for side, _ in tastes),
    )


def cited(text: str, facts: Facts) -> list[bool]:
    """For each interaction of the prompt whether the text speaks of it: by its title or by one of its keywords."""
    by_title = {title for _, title in _titles_in(text, facts)}
    titles = facts.titles or ("",) * len(facts.history)
    return [
        title in by_title or any(occurs(keyword, text) for keyword in keywords)
        for title, (keywords, _) in zip(titles, facts.history, strict=True)
    ]


def _counted(text: str) -> list[tuple[str, str, str]]:
    return [claim for group in CLAIMS.finditer(text) for claim in re.findall(CLAIM, group[1])]


def _truth(facts: Facts, keyword: str | None) -> tuple[int, int] | None:
    """The right numbers of a keyword; None for one that the prompt does not show."""
    return facts.count(keyword) if keyword is None or occurs(keyword, facts.shown) else None


def _keyword_tastes(counted: list[tuple[str, int, int]], facts: Facts) -> Iterator[tuple[int, bool]]:
    """(side, right) of each keyword whose numbers take a side: 1 = rather liked, -1 = rather disliked."""
    for name, liked, shown in counted:
        if side := _side(liked, shown):
            yield side, side == _side(*(_truth(facts, normal(name)) or (0, 0)))


def _title_tastes(text: str, facts: Facts) -> Iterator[tuple[int, bool]]:
    """(side, right) of each title in a clause that speaks of liking or of disliking, not of both."""
    found = _titles_in(text, facts)
    for place, title in found:  # words and stops within a title are none of the text's own
        text = text[:place] + "_" * len(title) + text[place + len(title) :]
    for start, end in pairwise([0, *(edge.start() for edge in EDGE.finditer(text)), len(text)]):
        rest, num_against = AGAINST.subn("", text[start:end])
        is_for = FOR.search(rest) is not None
        if is_for != (num_against > 0):
            for title in (title for place, title in found if start <= place < end):
                marks = {liked for other, (_, liked) in zip(facts.titles, facts.history, strict=True) if other == title}
                yield (1 if is_for else -1), is_for in marks


def _titles_in(text: str, facts: Facts) -> list[tuple[int, str]]:
    """(place, title) of each title of the prompt that the text names, the longest title where two begin.

    It counts as named in quotes, or bare if it has two words or more: "Heat" at the start of a sentence may be just a word.
    """
    titles = [re.escape(title) for title in sorted(facts.titles, key=len, reverse=True) if title]
    bare = [title for title in titles if re.search(r"\s", title)]
    patterns = [*(f'(?<="){title}(?=")' for title in titles), *(rf"(?<!\w){title}(?!\w)" for title in bare)]
    return [(found.start(), found[0]) for found in re.finditer("|".join(patterns), text)] if patterns else []


def _side(liked: int, shown: int) -> int:
    return (2 * liked > shown) - (2 * liked < shown)
