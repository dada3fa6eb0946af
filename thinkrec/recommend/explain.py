"""What the model says about candidates by itself, and whether that stands in the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from thinkrec.prompt.claims import check_claims, facts_of
from thinkrec.recommend.ranker import Ranked, Ranker
from thinkrec.text.phrases import normal


@dataclass(frozen=True)
class Explanation:
    """The reasoning, the verdict said (1 for Yes, 0 for No, None for any other word), and whether all it claims is so."""

    text: str
    verdict: int | None
    is_grounded: bool


class Explainer:
    """Reasons of a ranker's model, checked as in the report."""

    def __init__(self, ranker: Ranker) -> None:
        self._ranker = ranker
        self._vocabulary = frozenset(normal(word) for item in ranker.catalogue.items for word in item.keywords)

    def explain(self, ranked: Ranked, chosen: Sequence[Sequence[int]]) -> list[list[Explanation]]:
        """What the model says of scores that were ranked with their thoughts kept: of each user those of his candidates at these places."""
        questions = ranked.questions
        asked = [(user, place) for user, places in enumerate(chosen) for place in places]
        prompts = [prompt for user, places in enumerate(chosen) for prompt in questions.prompts(user, places)]
        owners, served = [user for user, _ in asked], np.array([ranked.score[user][place] for user, place in asked], np.float32)
        scorer, thoughts = self._ranker.scorer(questions), [ranked.thoughts[user][place] for user, place in asked]
        said: list[list[Explanation]] = [[] for _ in chosen]
        for (user, place), prompt, answer in zip(
            asked, prompts, scorer.reasons(prompts, owners, questions.gates[owners], served, thoughts), strict=True
        ):
            facts = facts_of(questions.tables.template, questions.history(user), int(questions.candidates[user][place]), prompt)
            text = scorer.text(answer)
            said[user].append(Explanation(text, answer.verdict, check_claims(text, facts, self._vocabulary).is_grounded))
        return said
