"""The school book of the nano teacher: short analyses written by rule from what a prompt shows, and the check of such claims.

Nothing else is consulted: no later rows, and never the truth table of the planted world. So a reader of the prompt can check every number.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from thinkrec.generate.phrases import named, normal, occurs
from thinkrec.model.prompt import Prompt, Template

MAX_KEYWORDS = 4  # of the target, spoken of in one lesson
CLAIM = r"([^,.;]+?) (\d+) of (\d+)"
CLAIMS = re.compile(rf"\bliked (?:with )?({CLAIM}(?:, {CLAIM})*)")


@dataclass(frozen=True)
class Facts:
    """What a prompt shows: (keywords, liked) of each interaction in it, the target's keywords, and its whole text."""

    history: tuple[tuple[tuple[str, ...], bool], ...]
    keywords: tuple[str, ...]
    shown: str

    def count(self, keyword: str | None) -> tuple[int, int]:
        """(liked, shown) among the interactions with this keyword, or among all for None."""
        wanted = keyword and normal(keyword)
        likes = [liked for keywords, liked in self.history if wanted is None or wanted in map(normal, keywords)]
        return sum(likes), len(likes)


@dataclass(frozen=True)
class Claims:
    """How many numbers a text gives, how many are right, and the keywords it names that its prompt does not."""

    num_claims: int
    num_right: int
    unknown_keywords: tuple[str, ...]


def facts_of(template: Template, history: list[tuple[int, int]], target: int, prompt: Prompt) -> Facts:
    """The facts of `prompt`, which `template` wrote for `target` after `history`; what did not fit into it is no fact."""
    items, in_history = template.items, template.settings.keywords_in_history
    fitting = history[len(history) - prompt.num_history :]
    lines = tuple((items[item].keywords if in_history else (), bool(liked)) for item, liked in fitting)
    return Facts(lines, items[target].keywords, template.text(prompt))


def write_lesson(facts: Facts) -> str:
    """For example "liked with noir 3 of 4, heist 0 of 2, overall 6 of 10."; the name comes first, so that what to count is known."""
    names = [*facts.keywords[:MAX_KEYWORDS], None]
    claims = [f"{name or 'overall'} {liked} of {shown}" for name in names for liked, shown in [facts.count(name)]]
    return f"liked {'with ' if facts.keywords else ''}{', '.join(claims)}."


def check_claims(text: str, facts: Facts, vocabulary: Collection[str] = ()) -> Claims:
    """Check every "noir 3 of 4" after a "liked", and that no keyword of `vocabulary` is named that is not shown."""
    claims = [claim for group in CLAIMS.finditer(text) for claim in re.findall(CLAIM, group[1])]
    unknown = [phrase for phrase in named(text, vocabulary) if not occurs(phrase, facts.shown)]
    num_right = 0
    for name, liked, shown in claims:
        keyword = None if name.strip() == "overall" else normal(name)
        if keyword is not None and not occurs(keyword, facts.shown):
            unknown.append(keyword)
        else:
            num_right += (int(liked), int(shown)) == facts.count(keyword)
    return Claims(len(claims), num_right, tuple(dict.fromkeys(unknown)))
