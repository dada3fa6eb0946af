"""Item-kNN, a baseline of lists: who liked this also liked that (Sarwar et al. 2001; Deshpande and Karypis 2004)."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from thinkrec.recommend.likes import Likes

Ints = NDArray[np.integer]
NUM_NEIGHBOURS = 100  # of an item, the most similar ones
NUM_LIKES = 200  # of a user in train, the last ones: pairs of items grow with their square
BLOCK_PAIRS = 2**23  # of items that somebody likes both of, counted at once: some 60 bytes each at the height


class ItemKnn:
    """Cosines of items over the users who like them in train, each item's NUM_NEIGHBOURS largest kept.

    A user's score of an item is the sum of its cosines with what he has liked.
    """

    def __init__(self, similarity: sparse.csr_array) -> None:
        self._similarity = similarity

    @classmethod
    def fit(cls, parts: Iterable[Likes], num_items: int) -> ItemKnn:
        """From the likes of all users in train, a part of the users at a time.

        Pairs are counted for a block of items at a time; of users, only their last likes are held at once, 8 bytes each and again by item.
        """
        liked = sparse.vstack([_liked(likes.last(NUM_LIKES), num_items) for likes in parts], format="csr")
        by_item = liked.T.tocsr()
        length = np.sqrt(by_item.sum(axis=1))
        inverse = np.divide(1, length, out=np.zeros(num_items), where=length > 0)
        most = np.minimum(by_item @ np.diff(liked.indptr).astype(np.int64), num_items)  # pairs of each item
        cuts = np.flatnonzero(np.diff(np.cumsum(most) // BLOCK_PAIRS)) + 1
        blocks = []
        for begin, end in pairwise([0, *cuts.tolist(), num_items]):
            together = by_item[begin:end] @ liked
            together.setdiag(0, begin)
            together.eliminate_zeros()
            cosines = sparse.diags_array(inverse[begin:end]) @ together @ sparse.diags_array(inverse)
            blocks.append(_largest(cosines.tocsr(), NUM_NEIGHBOURS))
        return cls(sparse.vstack(blocks, format="csr"))

    def order(self, likes: Likes) -> list[Ints]:
        """For each user the items that are neighbours of one of his likes, the best first; of equals the smaller number."""
        scores = (_liked(likes, self._similarity.shape[0]) @ self._similarity).tocsr()
        scores.sort_indices()
        rows = [slice(begin, end) for begin, end in pairwise(scores.indptr)]
        return [scores.indices[row][np.argsort(-scores.data[row], kind="stable")] for row in rows]


def _liked(likes: Likes, num_items: int) -> sparse.csr_array:
    """(users, items) 1 where he likes it, however often."""
    rows = np.ones(len(likes.item), np.int32), likes.item, likes.offsets
    liked = sparse.csr_array(rows, shape=(len(likes.offsets) - 1, num_items), copy=True)  # the next line changes them in their place
    liked.sum_duplicates()
    liked.data[:] = 1
    return liked


def _largest(matrix: sparse.csr_array, num: int) -> sparse.csr_array:
    """The `num` largest numbers of each row, of equal ones those of smaller columns."""
    matrix.sort_indices()
    row = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    order = np.lexsort((-matrix.data, row))
    kept = np.sort(order[np.arange(len(row)) - matrix.indptr[row] < num])
    return sparse.csr_array((matrix.data[kept], (row[kept], matrix.indices[kept])), shape=matrix.shape)
