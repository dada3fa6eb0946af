"""Which centroid is nearest to a user, by FAISS: an index over the centroids, searched with blocks of users that stay in the cache.

    argmax_k cos((x - mean) / scale, c_k)  =  argmax_k <x - mean, c_k / scale>

The length of a user's vector does not change the argmax, and the scale is part of the centroids. The mean is not: as a bias it would cost
the digits of vectors that lie far off the origin, so it is taken off a block at a time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from thinkrec.errors import DataError

Reals = NDArray[np.floating]  # of any precision
BLOCK_ROWS = 4096


def nearest_centroid(vectors: Reals, centroids: Reals, mean: Reals, scale: Reals) -> NDArray[np.int16]:
    """(n, d) vectors, (K, d) centroids, mean and scale (d,) -> (n,) nearest centroid, the first of equals; raises DataError for NaN."""
    import faiss

    index = faiss.IndexFlatIP(len(mean))
    index.add(np.ascontiguousarray(centroids / scale, np.float32))
    nearest = np.empty(len(vectors), np.int16)
    centred = np.empty((min(BLOCK_ROWS, len(vectors)), len(mean)), np.float32)
    for begin in range(0, len(vectors), BLOCK_ROWS):
        block = vectors[begin : begin + BLOCK_ROWS]
        points = np.subtract(block, mean, out=centred[: len(block)], casting="same_kind")
        similarity, found = index.search(points, 1)
        if found.min() < 0 or not np.isfinite(similarity).all():
            raise DataError("a user vector holds NaN or infinity", "router", "mark users without a vector as not known")
        nearest[begin : begin + BLOCK_ROWS] = found[:, 0]
    return nearest
