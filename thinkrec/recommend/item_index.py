"""Items by their vectors: which have the largest inner product with a query. FAISS, on the CPU."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.integer]

LISTS_PER_ROOT = 4  # an inverted file has so many lists a square root of its items
PROBED_SHARE = 8  # one in so many lists is looked at


class ItemIndex:
    """Items (n,) with vectors (n, d): exact up to `exact_items`, an inverted file above it. The same items give the same index."""

    def __init__(self, items: Ints, vectors: Floats, exact_items: int) -> None:
        import faiss

        self._items, dim = items, vectors.shape[1]
        vectors, flat = np.ascontiguousarray(vectors, np.float32), faiss.IndexFlatIP(dim)
        self._index: faiss.Index = flat
        if len(items) > exact_items:
            num_lists = int(LISTS_PER_ROOT * np.sqrt(len(items)))
            lists = faiss.IndexIVFFlat(flat, dim, num_lists, faiss.METRIC_INNER_PRODUCT)
            lists.nprobe = max(1, num_lists // PROBED_SHARE)
            lists.train(vectors)
            self._index = lists
        self._index.add(vectors)

    def search(self, queries: Floats, num: int) -> tuple[Ints, Floats]:
        """The `num` best items of each query (n, d), best first, and their products, both (n, num); -1 where there are no more."""
        num = min(num, len(self._items))
        if not num or not len(queries):
            return np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0), np.float32)
        similarity, place = self._index.search(np.ascontiguousarray(queries, np.float32), num)
        return np.where(place >= 0, self._items[place], -1), similarity
