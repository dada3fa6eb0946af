"""The lists of one bucket of users: histories, candidates, scores, the best of them, and what the model says about the first ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from thinkrec.artefacts.ingest import TEST
from thinkrec.artefacts.recommendations import LISTS, ORDERS, BucketCounts, write_bucket
from thinkrec.config.run import Config
from thinkrec.data.interactions import Interactions
from thinkrec.prompt.catalogue import ArtefactPaths
from thinkrec.recommend.candidates import POPULAR, VECTOR, Found, find
from thinkrec.recommend.explain import Explainer, Explanation
from thinkrec.recommend.filters import parts_of, read_given
from thinkrec.recommend.histories import of_users
from thinkrec.recommend.order import best_places, list_score
from thinkrec.recommend.ranker import Ranked, Ranker
from thinkrec.recommend.request import Request
from thinkrec.recommend.sampled import SAMPLED, with_sampled
from thinkrec.recommend.sources import Sources

Ints = NDArray[np.integer]
Floats = NDArray[np.float32]
# Orders of the candidates, SERVED that of the lists; the others are those of a source.
SERVED, RETRIEVAL, PRIOR, MODEL = "served", "retrieval", "prior", "model"


@dataclass(frozen=True)
class Task:
    """What an actor needs beside the run: the request, which items may be shown, whose lists (None: everybody's), and where they go."""

    request: Request
    allowed: NDArray[np.bool_]
    users: Mapping[int, list[str]] | None
    out: str


class BucketRecommender:
    """What an actor does: the number of a bucket in, and out when its lists are written."""

    def __init__(self, config: Config, places: ArtefactPaths, task: Task) -> None:
        self.config, self.places, self.task = config, places, task
        self.ranker = Ranker(config, places)
        self.item_ids = self.ranker.items.item_ids
        self.sources = Sources(config, places, self.item_ids, task.allowed, self.ranker.content)
        self.explainer = Explainer(self.ranker)

    def __call__(self, bucket: int) -> pa.Table:
        self.write(bucket)
        return pa.table({"bucket": [bucket]})

    def write(self, bucket: int) -> BucketCounts:
        """Make and commit the lists of one bucket."""
        whole = Interactions.load(self.places.path("ingest"), buckets=[bucket])
        log, num_unknown = self.users(bucket, whole)
        given, num_unknown_items = self._given(log)
        settings, request = self.config.recommend, self.task.request
        found = find(log, self.sources, settings, given, request.top if request.until_test else 0)
        ranked = self.ranker.rank(log, [user.items for user in found], keep_thoughts=request.explain > 0)
        best = [self._best(scores, user.items) for scores, user in zip(ranked.score, found, strict=True)]
        said = self._explain(found, ranked, [own[: request.explain].tolist() for own in best])
        lists = self._lists(log, found, ranked, best, said)
        orders = self._orders(log, found, ranked, self._sampled(whole, log)) if request.until_test else None
        counts = BucketCounts(
            num_users=len(log.user_ids),
            num_unknown=num_unknown,
            num_without_vector=int(self.ranker.without_vector(log).sum()),
            num_without_history=int((np.diff(log.offsets) == 0).sum()),
            num_not_given=sum(user not in given for user in log.user_ids) if request.candidates else 0,
            num_unknown_items=num_unknown_items,
            num_candidates=sum(len(user.items) for user in found),
            num_listed=lists.num_rows,
            num_short=sum(len(own) < request.top for own in best),
            num_explained=len(said),
            num_grounded=sum(one.is_grounded for one in said.values()),
        )
        write_bucket(self.task.out, bucket, lists, orders, counts)
        return counts

    def users(self, bucket: int, log: Interactions) -> tuple[Interactions, int]:
        """Those who get lists, with their histories in the bucket's log, sorted by id, and how many of them the run does not know."""
        request = self.task.request
        named = log.user_ids if self.task.users is None else self.task.users.get(bucket, [])
        users = request.asked(named, self.places.path("cluster"))
        if request.until_test:
            likes = set(log.user[(log.split == TEST) & (log.label == 1)].tolist())
            judged = {log.user_ids[user] for user in likes}
            users = [user for user in users if user in judged]
        known = set(log.user_ids)
        return of_users(log, users, request.until_test), sum(user not in known for user in users)

    def _given(self, log: Interactions) -> tuple[dict[str, Ints], int]:
        if not self.task.request.candidates:
            return {}, 0
        parts = parts_of(self.task.request.candidates, "user_id", "item_id")
        return read_given(parts, log.user_ids, pl.Enum(self.item_ids), self.task.allowed)

    def _best(self, scores: Floats, items: Ints) -> Ints:
        """Places of the best of these items."""
        top = self.task.request.top
        return best_places(self._list_score(scores, items), self.sources.num_rows[items] == 0, top, self.config.recommend.num_new(top))

    def _list_score(self, scores: Floats, items: Ints) -> NDArray[np.floating]:
        return list_score(scores, self.sources.num_rows[items], self.config.recommend.exposure)

    def _explain(self, found: Sequence[Found], ranked: Ranked, chosen: Sequence[list[int]]) -> dict[tuple[int, int], Explanation]:
        """{(user, item): explanation}, both as indices, of each user's candidates at the chosen places."""
        if not self.task.request.explain:
            return {}
        said = self.explainer.explain(ranked, chosen)
        return {
            (user, int(found[user].items[place])): one
            for user, places in enumerate(chosen)
            for place, one in zip(places, said[user], strict=True)
        }

    def _lists(
        self,
        log: Interactions,
        found: Sequence[Found],
        ranked: Ranked,
        best: Sequence[Ints],
        said: Mapping[tuple[int, int], Explanation],
    ) -> pa.Table:
        rows = [(user, place, rank) for user, own in enumerate(best) for rank, place in enumerate(own.tolist(), 1)]
        items = [int(found[user].items[place]) for user, place, _ in rows]
        score = np.array([ranked.score[user][place] for user, place, _ in rows], np.float32)
        prior = pa.array([ranked.prior[user][place] for user, place, _ in rows], pa.float32())
        told = [said.get((user, item)) for (user, _, _), item in zip(rows, items, strict=True)]
        columns = {
            "user_id": [log.user_ids[user] for user, _, _ in rows],
            "rank": [rank for _, _, rank in rows],
            "item_id": [self.item_ids[item] for item in items],
            "score": score,
            "p_like": 1 / (1 + np.exp(-score)),
            "prior": prior if self.ranker.prior else pa.nulls(len(rows), pa.float32()),
            "route": [ranked.route[user] for user, _, _ in rows],
            "source": [found[user].sources[place] for user, place, _ in rows],
            "explanation": [one and one.text for one in told],
            "is_grounded": [one and one.is_grounded for one in told],
        }
        return pa.table(columns, schema=LISTS)

    def _orders(self, log: Interactions, found: Sequence[Found], ranked: Ranked, sampled: Sequence[Mapping[str, Ints]]) -> pa.Table:
        rows = [
            (log.user_ids[user], name, rank, self.item_ids[int(item)])
            for user, own in enumerate(found)
            for name, items in [*self._rivals(own, ranked.prior[user], ranked.model[user]), *sampled[user].items()]
            for rank, item in enumerate(items, 1)
        ]
        return pa.table([list(column) for column in zip(*rows, strict=True)] or [[]] * len(ORDERS), schema=ORDERS)

    def _rivals(self, found: Found, prior: Floats, model: Floats) -> Iterator[tuple[str, Sequence[int]]]:
        """Lists that others would make: all candidates as they came, the best by parts of the score, and each source alone."""
        yield RETRIEVAL, found.items.tolist()
        top, items = self.task.request.top, found.items
        for name, part in ((PRIOR, prior), (MODEL, model)) if self.ranker.prior else ():
            yield name, items[self._best(part, items)].tolist()
        for name, own in found.orders.items():
            rest = [item for item in found.orders[POPULAR] if item not in own]
            yield name, [*own, *rest][:top]  # who has no vector is shown what is popular

    def _sampled(self, whole: Interactions, log: Interactions) -> list[dict[str, Ints]]:
        """For each user the first of his likes in test among items drawn at random, by who orders them; nothing unless it is asked for."""
        request, num = self.task.request, len(log.user_ids)
        if not request.sampled:
            return [{} for _ in range(num)]
        items = with_sampled(whole, log.user_ids, self.task.allowed, request.sampled, self.config.recommend.seen, self.config.run.seed)
        ranked, places = self.ranker.rank(log, items), np.full(len(self.item_ids), len(self.item_ids))
        places[self.sources.popular] = np.arange(len(self.sources.popular))
        heard = {SERVED: ranked.score} | ({PRIOR: ranked.prior, MODEL: ranked.model} if self.ranker.prior else {})
        scores = {name: [self._list_score(*one) for one in zip(part, items, strict=True)] for name, part in heard.items()}
        scores |= {VECTOR: self.sources.products(self.sources.user_vectors(log), items), POPULAR: [-places[own] for own in items]}
        return [
            {SAMPLED + name: own[np.lexsort((places[own], -parts[user]))][: request.top] for name, parts in scores.items()}
            for user, own in enumerate(items)
        ]
