"""Who proposes candidates: vectors of users, likes of the history, the content of new items, popularity. Each gives items best first; who
has none of a kind gets an empty list of it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from thinkrec.artefacts.ingest import read_item_totals
from thinkrec.artefacts.vectors import read_facts, read_vectors
from thinkrec.config.run import Config
from thinkrec.data.interactions import Interactions
from thinkrec.prompt.catalogue import ArtefactPaths
from thinkrec.recommend.item_index import ItemIndex

Floats = NDArray[np.float32]
Ints = NDArray[np.integer]
MAX_CELLS = 2**22  # results of a search that are held in memory, of 20 bytes


class Sources:
    """The catalogue as the sources see it: only the items that are `allowed` (num_items,).

    content: (num_items, columns) of what is written about each, as the prior has it; None without a prior.
    """

    def __init__(
        self, config: Config, places: ArtefactPaths, item_ids: list[str], allowed: NDArray[np.bool_], content: Floats | None = None
    ) -> None:
        self._encode, exact = places.path("encode"), config.recommend.exact_items
        self._has_bias, self._num_likes = read_facts(self._encode).has_bias, config.prompt.history_length
        self._shows_dislikes = config.prompt.history_dislikes
        self._vectors = read_vectors(self._encode, "items", item_ids)
        self._has_vector = np.asarray(self._vectors.any(axis=1))
        items = np.flatnonzero(self._has_vector & allowed)
        self._by_product = ItemIndex(items, self._vectors[items], exact)
        self._by_cosine = ItemIndex(items, self._directions(items), exact)
        self.popular: Ints = most_liked(places.path("ingest"), allowed)
        self.num_rows = read_item_totals(places.path("ingest"))[1]
        self._content = np.zeros((len(item_ids), 1), np.float32) if content is None else content
        new = np.flatnonzero((self.num_rows == 0) & allowed & self._content.any(axis=1))
        self._by_content = ItemIndex(new, _unit(self._content[new]), exact)

    def user_vectors(self, log: Interactions) -> Floats:
        """The vectors (n, d) of the users; zeros where there is none."""
        return read_vectors(self._encode, "users", log.user_ids)

    def by_vector(self, vectors: Floats, num: int) -> list[Ints]:
        """The items with the largest inner product with each of these vectors, with the item's bias where vectors have one."""
        queries, known = self._queries(vectors), np.asarray(vectors.any(axis=1))
        lists: list[Ints] = []
        for users in self._parts(np.ones(len(queries), np.int64), num):
            found, _ = self._by_product.search(queries[users], num)
            lists += [own[(own >= 0) & is_known] for own, is_known in zip(found, known[users], strict=True)]
        return lists

    def products(self, vectors: Floats, items: Sequence[Ints]) -> list[Floats]:
        """What `by_vector` orders by, of each vector (n, d) with its own items: -inf for an item without one, 0 for a user without one."""
        queries = self._queries(vectors) * vectors.any(axis=1, keepdims=True)
        found = ((self._vectors[own] @ query, query.any() & ~self._has_vector[own]) for query, own in zip(queries, items, strict=True))
        return [np.where(is_unknown, -np.inf, product).astype(np.float32) for product, is_unknown in found]

    def by_history(self, log: Interactions, num: int) -> list[Ints]:
        """The items nearest to one of each user's last likes; the liked items themselves are the nearest."""
        likes = np.flatnonzero((log.label == 1) & self._has_vector[log.item])
        ends = np.searchsorted(likes, log.offsets)
        last = [likes[max(begin, end - self._num_likes) : end] for begin, end in pairwise(ends)]
        lists: list[Ints] = []
        for users in self._parts(np.array([len(own) for own in last], np.int64), num):
            asked = last[users]
            found, similarity = self._by_cosine.search(self._directions(log.item[np.concatenate(asked)]), num)
            begins = np.cumsum([len(own) for own in asked])[:-1]
            lists += [_merged(*own, num) for own in zip(np.split(found, begins), np.split(similarity, begins), strict=True)]
        return lists

    def by_content(self, log: Interactions, num: int) -> list[Ints]:
        """The items that nobody met in train, nearest in content to the sum of each user's last likes less his last dislikes.

        Without dislikes where prompts show none: implicit ones were drawn, and nobody met them.
        """
        tastes = np.zeros((len(log.user_ids), self._content.shape[1]), np.float32)
        for user, (begin, end) in enumerate(pairwise(log.offsets)):
            shown = np.arange(begin, end) if self._shows_dislikes else begin + np.flatnonzero(log.label[begin:end] == 1)
            rows = shown[-self._num_likes :]
            tastes[user] = (2 * log.label[rows].astype(np.float32) - 1) @ _unit(self._content[log.item[rows]])
        known, lists = np.asarray(tastes.any(axis=1)), list[Ints]()
        for users in self._parts(np.ones(len(tastes), np.int64), num):
            found, _ = self._by_content.search(tastes[users], num)
            lists += [own[(own >= 0) & is_known] for own, is_known in zip(found, known[users], strict=True)]
        return lists

    def _queries(self, vectors: Floats) -> Floats:
        queries = vectors.copy()
        if self._has_bias:
            queries[:, -1] = 1  # the last number of an item is its bias, and a user's own moves all items alike
        return queries

    def _parts(self, num_queries: Ints, num: int) -> list[slice]:
        """Consecutive users whose queries together have about MAX_CELLS results: `num` is as large as the longest history wants it."""
        cells = np.cumsum(num_queries * min(num, len(self._vectors)))
        stops = [*(np.flatnonzero(np.diff(cells // MAX_CELLS)) + 1).tolist(), len(num_queries)]
        return [slice(begin, stop) for begin, stop in pairwise([0, *stops]) if begin < stop]

    def _directions(self, items: Ints) -> Floats:
        """Unit vectors (n, d) of items, without their bias."""
        return _unit(self._vectors[items, : self._vectors.shape[1] - self._has_bias])


def _unit(rows: Floats) -> Floats:
    """Rows (n, d) of length 1, or of 0 where they were."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.divide(rows, length, out=np.zeros_like(rows), where=length > 0))


def _merged(items: Ints, similarity: Floats, num: int) -> Ints:
    """The different items of several results (n, num), the most similar first, at most `num`."""
    order = np.argsort(-similarity.ravel(), kind="stable")
    ranked = items.ravel()[order]
    _, first = np.unique(ranked, return_index=True)
    merged: Ints = ranked[np.sort(first)]
    return merged[merged >= 0][:num].copy()  # a view would hold all of them


def most_liked(ingest: Path, allowed: NDArray[np.bool_]) -> Ints:
    """All allowed items, those with the most likes in train first, then in the catalogue's order."""
    order = np.argsort(-read_item_totals(ingest)[0], kind="stable")
    popular: Ints = order[allowed[order]]
    return popular
