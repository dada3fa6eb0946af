"""Questions as they come over HTTP, answered by the ranker of a package: many users of any bucket in one batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from thinkrec.artefacts.ingest import bucket_of, read_num_buckets
from thinkrec.artefacts.package import Package
from thinkrec.data.interactions import Interactions
from thinkrec.errors import DataError
from thinkrec.model.kept_prefixes import KeptPrefixes
from thinkrec.prompt.template import VERDICTS
from thinkrec.recommend.candidates import GIVEN, find
from thinkrec.recommend.explain import Explainer, Explanation
from thinkrec.recommend.histories import of_users, sent_along, together
from thinkrec.recommend.order import best_places, list_score
from thinkrec.recommend.ranker import Ranked, Ranker
from thinkrec.recommend.sources import Sources
from thinkrec.serve.messages import (
    Answer,
    ExplainAnswer,
    ExplainedItem,
    ExplainRequest,
    ListedItem,
    Question,
    RecommendAnswer,
    RecommendRequest,
    ScoreAnswer,
    ScoredItem,
    ScoreRequest,
)
from thinkrec.store.cache import hold

Ints = NDArray[np.integer]
Request = RecommendRequest | ScoreRequest | ExplainRequest
NUM_LOGS = 8  # buckets whose interactions are held in memory
PAIRS_OF_EXPLANATION = 64  # as much work as scoring so many pairs


@dataclass
class _Asked:
    """A question in the ranker's terms: the user's history, and the candidates with the source of each."""

    request: Request
    log: Interactions
    num_unknown_items: int
    items: Ints
    sources: list[str]


class Service:
    """What a package answers; not for two threads at once. `kept` takes the histories that it reads; None keeps none."""

    def __init__(self, ranker: Ranker, package: Package, kept: KeptPrefixes | None = None) -> None:
        self.key, self.kept, self._ranker = package.key, kept, ranker
        ranker.kept = kept
        self._item_ids = ranker.items.item_ids
        self._item_at = {item: at for at, item in enumerate(self._item_ids)}
        self._sources = Sources(ranker.config, ranker.places, self._item_ids, np.ones(len(self._item_ids), bool), ranker.content)
        self._explainer = Explainer(ranker)
        self._num_buckets = read_num_buckets(ranker.places.path("ingest"))
        self._held = hold(ranker.places.path("ingest").parent)  # files of the package are read for as long as it is served
        self._log_of_bucket = lru_cache(NUM_LOGS)(self._load)

    def check(self, request: Request) -> None:
        """Raise DataError where none of the items that are asked about is in the catalogue."""
        items = request.candidates if isinstance(request, RecommendRequest) else request.items
        if items is not None and not any(item in self._item_at for item in items):
            raise DataError(f"none of these {len(items)} items is in the catalogue", "items", "write ids as in the interactions")

    def size(self, request: Request) -> int:
        """How many pairs of user and item answering means."""
        if isinstance(request, ExplainRequest):
            return len(request.items) * PAIRS_OF_EXPLANATION
        if isinstance(request, ScoreRequest):
            return len(request.items)
        return len(request.candidates) if request.candidates else self._ranker.config.recommend.num_candidates

    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        """The answers, in order."""
        asked = [self._asked(request) for request in requests]
        for seen in (False, True):
            self._find([one for one in asked if isinstance(one.request, RecommendRequest) and one.request.seen == seen], seen)
        explained = [isinstance(request, ExplainRequest) for request in requests]
        ranked = self._ranker.rank(together([one.log for one in asked]), [one.items for one in asked], any(explained))
        chosen = [range(len(one.items)) if is_explained else () for one, is_explained in zip(asked, explained, strict=True)]
        said = self._explainer.explain(ranked, chosen) if any(explained) else [()] * len(asked)
        return [self._answer(one, ranked, place, said[place]) for place, one in enumerate(asked)]

    def _asked(self, request: Request) -> _Asked:
        log, num_unknown = self._history(request)
        named = list(dict.fromkeys(request.candidates or ())) if isinstance(request, RecommendRequest) else request.items
        items = [self._item_at[item] for item in named if item in self._item_at]
        num_unknown += len(named) - len(items)
        if isinstance(request, RecommendRequest) and not request.seen:
            items = [item for item in items if item not in log.item]
        return _Asked(request, log, num_unknown, np.array(items, np.int64), [GIVEN] * len(items))

    def _history(self, request: Question) -> tuple[Interactions, int]:
        """What the user did, and how many of the events that were sent are about unknown items."""
        if request.history is None:
            user = request.user_id or ""
            return of_users(self._log_of_bucket(bucket_of(user, self._num_buckets)), [user]), 0
        events = [
            (self._item_at[event.item_id], int(event.liked), place if event.ts is None else event.ts)
            for place, event in enumerate(request.history)
            if event.item_id in self._item_at
        ]
        return sent_along(self._ranker.items, [request.user_id or ""], [events]), len(request.history) - len(events)

    def _load(self, bucket: int) -> Interactions:
        return Interactions.load(self._ranker.places.path("ingest"), buckets=[bucket])

    def _find(self, asked: Sequence[_Asked], seen: bool) -> None:
        """Fill in the candidates of those who named none."""
        open_ones = [one for one in asked if isinstance(one.request, RecommendRequest) and one.request.candidates is None]
        if not open_ones:
            return
        settings = self._ranker.config.recommend.model_copy(update={"seen": seen})
        for one, found in zip(open_ones, find(together([one.log for one in open_ones]), self._sources, settings, {}), strict=True):
            one.items, one.sources = found.items, found.sources

    def _answer(self, asked: _Asked, ranked: Ranked, place: int, said: Sequence[Explanation]) -> Answer:
        request, scores = asked.request, ranked.score[place]
        about = Answer(
            package=self.key,
            is_known_user=len(asked.log) > 0,
            num_unknown_items=asked.num_unknown_items,
            route=ranked.route[place],
        )
        items = list(self._scored(asked, ranked, place))
        if isinstance(request, ScoreRequest):
            return ScoreAnswer(**vars(about), items=items)
        if isinstance(request, RecommendRequest):
            settings, num_rows = self._ranker.config.recommend, self._sources.num_rows[asked.items]
            chosen = best_places(list_score(scores, num_rows, settings.exposure), num_rows == 0, request.top, settings.num_new(request.top))
            listed = [ListedItem(**vars(items[at]), rank=rank, source=asked.sources[at]) for rank, at in enumerate(chosen.tolist(), 1)]
            return RecommendAnswer(**vars(about), items=listed)
        explained = [
            ExplainedItem(
                **vars(item), verdict="" if one.verdict is None else VERDICTS[one.verdict], text=one.text, is_grounded=one.is_grounded
            )
            for item, one in zip(items, said, strict=True)
        ]
        return ExplainAnswer(**vars(about), items=explained)

    def _scored(self, asked: _Asked, ranked: Ranked, place: int) -> Iterator[ScoredItem]:
        scores = ranked.score[place].astype(np.float64)
        for item, score, prior in zip(asked.items.tolist(), scores.tolist(), ranked.prior[place].tolist(), strict=True):
            title = self._ranker.catalogue.items[item].title
            yield ScoredItem(item_id=self._item_ids[item], title=title, score=score, p_like=float(1 / (1 + np.exp(-score))), prior=prior)
