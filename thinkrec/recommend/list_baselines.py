"""The lists that item-kNN and the two-hop graph would have made for the same users: of all items, from the same rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from thinkrec.artefacts.ingest import read_items
from thinkrec.artefacts.keywords import read_keywords
from thinkrec.data.interactions import Interactions
from thinkrec.recommend.candidates import POPULAR, seen_items, union
from thinkrec.recommend.item_knn import ItemKnn
from thinkrec.recommend.likes import Likes, train_likes
from thinkrec.recommend.sources import most_liked
from thinkrec.recommend.transition_graph import TransitionGraph
from thinkrec.store.artefacts import Artefact

Ints = NDArray[np.integer]
ITEM_KNN, TWO_HOP = BASELINES = ("item_knn", "two_hop")
COLUMNS = pl.Schema({"user_id": pl.String, "rank": pl.Int64, "item_id": pl.String})


class ListBaselines:
    """Both baselines, fitted to the likes of train; only the items that are `allowed` (num_items,) are listed."""

    def __init__(self, artefacts: Mapping[str, Artefact], allowed: NDArray[np.bool_]) -> None:
        ingest = artefacts["ingest"].path()
        self._item_ids = read_items(ingest, ["item_id"])["item_id"].to_list()
        words = read_keywords(artefacts["keywords"].path(), ["item_id", "keywords"])
        keywords = pl.DataFrame({"item_id": self._item_ids}).join(words, on="item_id", how="left", maintain_order="left")["keywords"]
        self._knn = ItemKnn.fit(train_likes(ingest), len(allowed))
        self._graph = TransitionGraph.fit(train_likes(ingest), [own or () for own in keywords.to_list()])
        self._popular, self._allowed = most_liked(ingest, allowed), allowed

    def orders(self, log: Interactions, num: int, may_be_seen: bool) -> dict[str, pl.DataFrame]:
        """(user_id, rank, item_id) by baseline: lists of `num` items for the users of `log`, filled up with what is popular."""
        likes, seen = Likes.of(log), [set[int]() if may_be_seen else own for own in seen_items(log)]
        named = {
            ITEM_KNN: [[(own, num)] for own in self._knn.order(likes)],
            TWO_HOP: self._graph.rings(likes, num),
        }
        rows = {
            name: [
                (user_id, rank, self._item_ids[item])
                for user_id, parts, own in zip(log.user_ids, lists, seen, strict=True)
                for rank, item in enumerate(self._filled(name, parts, own, num), 1)
            ]
            for name, lists in named.items()
        }
        return {name: pl.DataFrame(found, schema=COLUMNS, orient="row") for name, found in rows.items()}

    def _filled(self, name: str, parts: Sequence[tuple[Ints, int]], seen: set[int], num: int) -> Iterable[int]:
        named = [(name, items[self._allowed[items]], quota) for items, quota in parts]
        return union([*named, (POPULAR, self._popular, num)], seen, num)
