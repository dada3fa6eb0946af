"""The rows of a log as histories and as what is asked of the prior."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from thinkrec.artefacts.ingest import TRAIN
from thinkrec.data.interactions import Interactions
from thinkrec.prior.quality import Ratings, folds_of
from thinkrec.prior.windows import Histories, Queries

Ints = NDArray[np.integer]
SameSecond = Literal["seen", "hidden"]


@dataclass(frozen=True)
class Rows:
    """Aligned columns of some users, sorted by user, time and row; `fold` has one entry a user."""

    user: Ints  # 0, 1, ...: places in `fold`
    item: Ints
    label: Ints  # 1 = like
    milliseconds: Ints
    is_train: NDArray[np.bool_]
    is_visible: NDArray[np.bool_]  # whether a history may show it
    fold: Ints

    @classmethod
    def of(cls, data: Interactions, is_rolling: bool) -> Rows:
        """The rows of a log; `is_rolling`: histories show rows outside train, too."""
        is_train = data.split == TRAIN
        is_visible = np.ones(len(data), bool) if is_rolling else is_train
        user, item, label = (column.astype(np.int64) for column in (data.user, data.item, data.label))
        return cls(user, item, label, data.ts, is_train, is_visible, folds_of(data.user_ids))

    @classmethod
    def concatenate(cls, parts: Sequence[Rows]) -> Rows:
        """The rows of unlike users, one part after another."""
        before = np.cumsum([0, *(len(part.fold) for part in parts)])
        user = np.concatenate([part.user + shift for part, shift in zip(parts, before, strict=False)])
        names = ("item", "label", "milliseconds", "is_train", "is_visible", "fold")
        return cls(user, **{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})

    def of_users(self, drawn: NDArray[np.bool_]) -> Rows:
        """The rows of some users: `drawn` has one entry a user."""
        inside = drawn[self.user]
        user = (np.cumsum(drawn) - 1)[self.user[inside]]
        names = ("item", "label", "milliseconds", "is_train", "is_visible")
        return Rows(user, **{name: getattr(self, name)[inside] for name in names}, fold=self.fold[drawn])

    def ratings(self, num_items: int) -> Ratings:
        """The train rows."""
        train = self.is_train
        return Ratings.of(self.user[train], self.item[train], self.label[train], self.fold, num_items)

    def histories(self) -> Histories:
        """The visible rows, one history a user."""
        return self._histories(self.is_visible)

    def train_histories(self) -> Histories:
        """The train rows, one history a user."""
        return self._histories(self.is_train)

    def _histories(self, shown: NDArray[np.bool_]) -> Histories:
        offsets = np.searchsorted(self.user[shown], np.arange(len(self.fold) + 1))
        return Histories(self.item[shown], self.label[shown], self.milliseconds[shown] / 1000, offsets, self.fold)

    def queries(self, same_second: SameSecond) -> Queries:
        """Every row, asked before its label; "hidden": before the labels of all rows of its user that carry the same second, too."""
        seconds = self.milliseconds // 1000
        begins = (np.diff(self.user, prepend=-1) != 0) | (np.diff(seconds, prepend=-1) != 0)
        place = np.arange(len(self.user))
        before = np.maximum.accumulate(np.where(begins, place, 0)) if same_second == "hidden" else place
        shown = np.concatenate([[0], np.cumsum(self.is_visible)])
        seen = shown[before] - shown[np.searchsorted(self.user, self.user)]
        return Queries(self.user, seen, self.item, self.milliseconds / 1000)
