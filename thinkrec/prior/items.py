"""All that the prior knows of items: what is written about them, and what was counted without each fold's users."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thinkrec.prior.content import Content
from thinkrec.prior.quality import Quality

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]

TASTES = ("keywords", "years", "words", "factors", "quality", "count")  # what a user may prefer; blocks of columns of `traits`


@dataclass(frozen=True)
class Items:
    """float32 columns of every item; rows of `counted` and the numbers after it come from users of the other folds.

    Traits are centred on the average item of train, so that a taste moves no user's level.
    """

    content: Floats  # (num_items, columns): the blocks keywords, years and words
    counted: Floats  # (num_folds, num_items, columns): the blocks factors, quality and count
    widths: tuple[int, ...]  # of the blocks, in the order of TASTES
    rate: Floats  # (num_folds, num_items)
    promised: Floats  # (num_folds, num_items)
    num_rows: Floats  # (num_folds, num_items)
    year: Floats  # (num_items,) as in Content

    @classmethod
    def of(cls, content: Content, quality: Quality, factors: Floats) -> Items:
        """Put together and centre; `factors` (num_folds, num_items, dim)."""
        rate, promised, num_rows = (table.T for table in (quality.rate, quality.promised, quality.num_rows))
        counted = np.concatenate([factors, logit(rate)[..., None], np.log1p(num_rows)[..., None]], axis=2)
        weight = num_rows / np.maximum(1, num_rows.sum(1, keepdims=True))
        average = weight.mean(0) @ content.matrix()
        counted -= np.einsum("fi,fid->fd", weight, counted)[:, None]
        blocks = (content.keywords, content.years, content.words)
        tables = (content.matrix() - average, counted, rate, promised, num_rows)
        matrix, counted, rate, promised, num_rows = (table.astype(np.float32) for table in tables)
        widths = (*(block.shape[1] for block in blocks), factors.shape[2], 1, 1)
        return cls(matrix, counted, widths, rate, promised, num_rows, content.year)

    @property
    def width(self) -> int:
        return sum(self.widths)

    def traits(self, fold: Ints, item: Ints) -> Floats:
        """(..., width) float64 of items as the users of these folds may know them."""
        return np.concatenate([self.content[item], self.counted[fold, item]], axis=-1, dtype=np.float64)


def logit(share: Floats) -> Floats:
    """Log-odds."""
    return np.asarray(np.log(share) - np.log1p(-share))
