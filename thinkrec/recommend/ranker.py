"""How much each user likes each of his candidates, by the prior and the fused model: the one scorer of lists and of answers over HTTP.

All candidates of a user are asked after the same history, on one copy of it, and as of his last row. A user without a vector, without a
history, or unknown to the run is served, too: by the global adapter, and by what the prior knows of the items.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from thinkrec.artefacts.clusters import NO_CLUSTER
from thinkrec.artefacts.scores import read_model_weight
from thinkrec.config.run import Config
from thinkrec.data.interactions import Interactions
from thinkrec.model.kept_prefixes import KeptPrefixes
from thinkrec.model.recommender import Recommender
from thinkrec.prior.counted import CountedPrior
from thinkrec.prior.rows import Rows
from thinkrec.prior.stored import read_prior
from thinkrec.prior.windows import Queries
from thinkrec.prompt.catalogue import ArtefactPaths, Catalogue, PromptData
from thinkrec.prompt.template import Prompt
from thinkrec.recommend.histories import asking
from thinkrec.routing.gate_table import Routing
from thinkrec.routing.router import routes
from thinkrec.score.scorer import Answer, Scorer
from thinkrec.score.serving import serving_model
from thinkrec.score.total import total_score

Ints = NDArray[np.integer]
Floats = NDArray[np.float32]
MAX_PROMPTS = 2**14  # written at a time


@dataclass(frozen=True)
class Questions:
    """Users with candidates and how they are asked about: the interactions with a row a candidate behind each history."""

    tables: PromptData
    begin: Ints  # of each user's candidates in the interactions
    candidates: Sequence[Ints]
    gates: Floats

    def history(self, user: int) -> list[tuple[int, int]]:
        """(item, label) pairs that the prompts of this user show."""
        return self.tables.history(int(self.begin[user]))

    def prompts(self, user: int, places: Iterable[int] | None = None) -> list[Prompt]:
        """One for each of his candidates, or for those at some places."""
        history, begin, write = self.history(user), int(self.begin[user]), self.tables.template.write
        asked = range(len(self.candidates[user])) if places is None else places
        return [write(history, int(self.candidates[user][place]), self.tables.counted(begin + place)) for place in asked]


@dataclass(frozen=True)
class Ranked:
    """Scores of candidates, an array a user in the order of his candidates, and what served each user.

    score: log-odds of a like, see score/total.py. prior: its part, 0 without a prior. model: what the language model says by itself,
    of which the score takes g times. thoughts: what it said before that, where they are kept. route: expert | global | mixture.
    """

    questions: Questions
    score: list[Floats]
    prior: list[Floats]
    model: list[Floats]
    thoughts: list[list[Answer]]
    route: list[str]


class Ranker:
    """The model and the prior of a run or a package, loaded once; `places` names its artefacts as a run does.

    kept: histories that are not read again for another question; who asks about each user once keeps none.
    """

    def __init__(self, config: Config, places: ArtefactPaths) -> None:
        self.config, self.places = config, places
        self.kept: KeptPrefixes | None = None
        self.routing, self.catalogue = Routing(places), Catalogue.load(config, places)
        self.prior: CountedPrior | None = read_prior(places.path("prior")) if "prior" in places.uris else None
        self.model_weight = read_model_weight(places.path("score"))

    @cached_property
    def items(self) -> Interactions:
        """The catalogue as a log without rows: `item_ids` in their order, for recommend/histories.py."""
        return Interactions.load(self.places.path("ingest"), users=())

    @cached_property
    def recommender(self) -> Recommender:
        """All adapters in one bank, on the GPU where there is one."""
        return serving_model(self.config, self.places, self.catalogue.tables_of(self.items), self.routing.num_experts)

    @property
    def content(self) -> Floats | None:
        """(num_items, columns) of what is written about each item, as the prior has it; None without a prior."""
        return None if self.prior is None else self.prior.items.content.astype(np.float32, copy=False)

    def rank(self, log: Interactions, candidates: Sequence[Ints], keep_thoughts: bool = False) -> Ranked:
        """Score the candidates (item indices) of each user of `log`, which holds every user's whole history."""
        questions, model = self.questions(log, candidates), [np.empty(0, np.float32)] * len(candidates)
        thoughts: list[list[Answer]] = [[] for _ in candidates]
        for users in _parts([len(items) for items in candidates]):
            for user, found, said in zip(users, *self._ask(questions, users), strict=True):
                model[user] = found
                thoughts[user] = said if keep_thoughts else []
        prior = self.prior_offsets(log, candidates)
        scores = [total_score(*parts, self.model_weight) for parts in zip(prior, model, strict=True)]
        return Ranked(questions, scores, prior, model, thoughts, routes(questions.gates).tolist())

    def questions(self, log: Interactions, candidates: Sequence[Ints]) -> Questions:
        """What the model is asked about these candidates; gates by the variant that serves."""
        rows, begin = asking(log, candidates)
        return Questions(self.catalogue.tables_of(rows), begin, candidates, self.routing.gates(self.routing.variants[-1], log.user_ids))

    def scorer(self, questions: Questions) -> Scorer:
        """The model over the tables of these questions."""
        return Scorer(self.config, self.recommender, questions.tables, self.kept)

    def prior_offsets(self, log: Interactions, candidates: Sequence[Ints]) -> list[Floats]:
        """The prior's log-odds of each user's candidates as of his last row; zeros without a prior."""
        if self.prior is None:
            return [np.zeros(len(items), np.float32) for items in candidates]
        sizes = np.array([len(items) for items in candidates], np.int64)
        histories = Rows.of(log, self.config.prompt.history_policy == "rolling").histories()
        has_rows = np.diff(log.offsets) > 0
        last = np.where(has_rows, np.append(log.ts, 0)[log.offsets[1:] - 1], 0) / 1000
        owner, seen = np.repeat(np.arange(len(sizes)), sizes), np.diff(histories.offsets)
        items = np.concatenate([np.empty(0, np.int64), *candidates])
        found = self.prior.offsets(histories, Queries(owner, seen[owner], items, last[owner])).offset
        return [found[end - size : end].astype(np.float32) for size, end in zip(sizes, np.cumsum(sizes), strict=True)]

    def without_vector(self, log: Interactions) -> NDArray[np.bool_]:
        """Of each user whether the encoder has no vector for him, so that the global adapter serves him."""
        return np.asarray(self.routing.clusters(log.user_ids) == NO_CLUSTER)

    def _ask(self, questions: Questions, users: Sequence[int]) -> tuple[list[Floats], list[list[Answer]]]:
        """What the model says by itself about the candidates of these users, and what it said before that."""
        scorer, sizes = self.scorer(questions), [len(questions.candidates[user]) for user in users]
        prompts, owners = [prompt for user in users for prompt in questions.prompts(user)], np.repeat(users, sizes).tolist()
        thoughts = scorer.thoughts(prompts, owners, questions.gates[owners])
        scores = scorer.scores(prompts, owners, questions.gates[owners], thoughts)
        ends = np.cumsum(sizes).tolist()
        return np.split(scores, ends[:-1]), [thoughts[end - size : end] for size, end in zip(sizes, ends, strict=True)]


def _parts(sizes: Sequence[int]) -> list[list[int]]:
    """Users who have candidates, parted so that each part has about MAX_PROMPTS of them: a function of these users alone."""
    asked = [user for user, size in enumerate(sizes) if size]
    part = np.cumsum([sizes[user] for user in asked]) // MAX_PROMPTS
    return [own.tolist() for own in np.split(np.array(asked, np.int64), np.flatnonzero(np.diff(part)) + 1) if len(own)]
