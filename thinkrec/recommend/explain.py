"""What the model says about candidates by itself, and whether that stands in the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thinkrec.data.interactions import Interactions
from thinkrec.prompt.claims import check_claims, facts_of
from thinkrec.recommend.ranker import Ranker
from thinkrec.text.phrases import normal

Ints = NDArray[np.integer]
Floats = NDArray[np.float32]


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

    def explain(self, log: Interactions, items: Sequence[Ints], served: Sequence[Floats]) -> list[list[Explanation]]:
        """Of each user of `log`, in the order of his items (as indices), what the model says of the scores that he is served."""
        questions = self._ranker.questions(log, items)
        scorer, write = self._ranker.scorer(questions), questions.tables.template.write
        histories = [questions.history(user) for user in range(len(items))]
        asked = [
            (user, int(item), write(histories[user], int(item), counted))
            for user, own in enumerate(items)
            for item, counted in zip(own, questions.counted(user), strict=True)
        ]
        owners = [user for user, _, _ in asked]
        scores = np.concatenate([np.empty(0, np.float32), *served])
        speeches = scorer.speak([prompt for _, _, prompt in asked], owners, questions.gates[owners], scores)
        said: list[list[Explanation]] = [[] for _ in items]
        for (user, item, prompt), speech in zip(asked, speeches, strict=True):
            text = scorer.text(speech)
            claims = check_claims(text, facts_of(questions.tables.template, histories[user], item, prompt), self._vocabulary)
            said[user].append(Explanation(text, speech.verdict, claims.is_grounded))
        return said
