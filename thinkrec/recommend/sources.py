"""Who proposes candidates: vectors of users, likes of the history, popularity. Each gives items best first; who has none of a kind gets
an empty list of it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

from thinkrec.artefacts.ingest import read_counts
from thinkrec.artefacts.vectors import read_facts, read_vectors
from thinkrec.config.run import Config
from thinkrec.data.interactions import Interactions
from thinkrec.prompt.catalogue import ArtefactPaths
from thinkrec.recommend.item_index import ItemIndex

Floats = NDArray[np.float32]
Ints = NDArray[np.integer]


class Sources:
    """The catalogue as the sources see it: only the items that are `allowed` (num_items,)."""

    def __init__(self, config: Config, places: ArtefactPaths, item_ids: list[str], allowed: NDArray[np.bool_]) -> None:
        self._encode, exact = places.path("encode"), config.recommend.exact_items
        self._has_bias, self._num_likes = read_facts(self._encode).has_bias, config.prompt.history_length
        self._vectors = read_vectors(self._encode, "items", item_ids)
        self._has_vector = np.asarray(self._vectors.any(axis=1))
        items = np.flatnonzero(self._has_vector & allowed)
        self._by_product = ItemIndex(items, self._vectors[items], exact)
        self._by_cosine = ItemIndex(items, self._directions(items), exact)
        self.popular: Ints = _popular(places, item_ids, allowed)

    def user_vectors(self, log: Interactions) -> Floats:
        """The vectors (n, d) of the users; zeros where there is none."""
        return read_vectors(self._encode, "users", log.user_ids)

    def by_vector(self, vectors: Floats, num: int) -> list[Ints]:
        """The items with the largest inner product with each of these vectors, with the item's bias where vectors have one."""
        queries, known = vectors.copy(), np.asarray(vectors.any(axis=1))
        if self._has_bias:
            queries[:, -1] = 1  # the last number of an item is its bias, and a user's own moves all items alike
        found, _ = self._by_product.search(queries, num)
        return [own[own >= 0] if is_known else own[:0] for own, is_known in zip(found, known, strict=True)]

    def by_history(self, log: Interactions, num: int) -> list[Ints]:
        """The items nearest to one of each user's last likes; the liked items themselves are the nearest."""
        likes = np.flatnonzero((log.label == 1) & self._has_vector[log.item])
        ends = np.searchsorted(likes, log.offsets)
        last = [likes[max(begin, end - self._num_likes) : end] for begin, end in pairwise(ends)]
        found, similarity = self._by_cosine.search(self._directions(log.item[np.concatenate([likes[:0], *last])]), num)
        stops = np.cumsum([len(own) for own in last])
        return [_merged(found[stop - len(own) : stop], similarity[stop - len(own) : stop]) for own, stop in zip(last, stops, strict=True)]

    def _directions(self, items: Ints) -> Floats:
        """Unit vectors (n, d) of items, without their bias."""
        latent = self._vectors[items, : self._vectors.shape[1] - self._has_bias]
        length = np.linalg.norm(latent, axis=1, keepdims=True)
        return np.asarray(np.divide(latent, length, out=np.zeros_like(latent), where=length > 0))


def _merged(items: Ints, similarity: Floats) -> Ints:
    """The different items of several results (n, num), the most similar first."""
    order = np.argsort(-similarity.ravel(), kind="stable")
    ranked = items.ravel()[order]
    _, first = np.unique(ranked, return_index=True)
    merged: Ints = ranked[np.sort(first)]
    return merged[merged >= 0]


def _popular(places: ArtefactPaths, item_ids: Sequence[str], allowed: NDArray[np.bool_]) -> Ints:
    """All allowed items, those with the most likes in train first, then in the catalogue's order."""
    likes = read_counts(places.path("ingest"), ["item_id", "num_likes"]).group_by("item_id").agg(pl.col("num_likes").sum())
    counted = pl.DataFrame({"item_id": item_ids}).join(likes, on="item_id", how="left", maintain_order="left")["num_likes"]
    order = np.argsort(-counted.fill_null(0).to_numpy().astype(np.int64), kind="stable")
    popular: Ints = order[allowed[order]]
    return popular
