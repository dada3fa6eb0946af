"""The log as columns, and histories as slices of it (D38): the one way by which any stage learns what a user did before a row."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from thinkrec.artefacts.ingest import SPLITS, TEST, TRAIN, bucket_files, bucket_of, read_counts, read_items, read_num_buckets, read_users

if TYPE_CHECKING:  # who is handed interactions, as a bare GPU machine is by benchmarks/gpu_check.py, reads no parquet
    import polars as pl

Policy = Literal["rolling", "train_only"]


@dataclass(frozen=True)
class Interactions:
    """Rows of some or all users, sorted by (user_id, ts, row); 26 bytes a row. `position` means an index into these columns."""

    user: NDArray[np.int32]  # index into user_ids
    item: NDArray[np.int32]  # index into item_ids
    label: NDArray[np.int8]
    ts: NDArray[np.int64]  # milliseconds, UTC
    row: NDArray[np.int64]
    split: NDArray[np.int8]  # index into SPLITS
    offsets: NDArray[np.int64]  # rows of user u are offsets[u]:offsets[u + 1]
    user_ids: list[str]  # those with rows here, sorted
    item_ids: list[str]  # all of items.parquet, in its order
    item_in_train: NDArray[np.bool_]  # over all users, loaded or not

    @classmethod
    def load(cls, folder: Path, users: Collection[str] | None = None, buckets: Collection[int] | None = None) -> Interactions:
        """Read an ingest artefact, or only these users or these buckets of it."""
        import polars as pl

        if users is not None:
            num_buckets = read_num_buckets(folder)
            buckets = {bucket_of(user, num_buckets) for user in users}
        items, user_ids = read_items(folder, ["item_id"])["item_id"], read_users(folder, buckets)
        kinds = {"user_id": pl.Enum(user_ids), "item_id": pl.Enum(items), "split": pl.Enum(SPLITS)}
        parts = (_coded(file, users, kinds) for file in bucket_files(folder, buckets))
        frame = pl.concat([pl.DataFrame(schema=_codes()), *parts]).sort("user_id", "ts", "row")
        found, user = np.unique(frame["user_id"].to_numpy(), return_inverse=True)
        return cls(
            user=user.astype(np.int32),
            item=frame["item_id"].to_numpy(),
            label=frame["label"].to_numpy(),
            ts=frame["ts"].to_numpy(),
            row=frame["row"].to_numpy(),
            split=frame["split"].to_numpy(),
            offsets=np.searchsorted(user, np.arange(len(found) + 1)),
            user_ids=user_ids.gather(found).to_list(),
            item_ids=items.to_list(),
            item_in_train=items.is_in(read_counts(folder, ["item_id"])["item_id"].implode()).to_numpy(),
        )

    def __len__(self) -> int:
        return len(self.row)

    def history(self, position: int, length: int, policy: Policy, dislikes: bool = True) -> slice | NDArray[np.int64]:
        """Positions of the last `length` rows of the same user before `position`, oldest first.

        "rolling": all earlier rows, of whatever split, as a slice; "train_only": only train rows, as an array. Without `dislikes` only
        likes count, as an array. What is later never shows.
        """
        start = int(self.offsets[self.user[position]])
        if policy == "rolling" and dislikes:
            return slice(max(start, position - length), position)
        shown = self._shown(policy, dislikes)
        first, last = np.searchsorted(shown, [start, position])
        return shown[max(first, last - length) : last]

    def snapshots(self, num_targets: int) -> NDArray[np.int64]:
        """For each row the position before which its history ends: that of the first of up to `num_targets` consecutive train rows of its
        user, counted from his first; other rows end their own.
        """
        train, first = np.flatnonzero(self.split == TRAIN), np.arange(len(self))
        user = self.user[train]
        before = np.arange(len(train)) - np.searchsorted(user, user)  # train rows of the same user
        first[train] = train[np.arange(len(train)) - before % num_targets]
        return first

    def asked(self, users: NDArray[np.int64], items: NDArray[np.int64]) -> Interactions:
        """One history a question: what the user did before the row asked about, and that row behind it; users and items as indices.

        The row is the user's last one with this item; where there is none, it is a new one, which comes after all that the user did.
        """
        pieces, is_new = [], np.zeros(len(users), bool)
        for at, (user, item) in enumerate(zip(users, items, strict=True)):
            rows = np.arange(self.offsets[user], self.offsets[user + 1])
            same = np.flatnonzero(self.item[rows] == item)
            is_new[at] = not len(same)
            pieces.append(np.append(rows, rows[-1]) if is_new[at] else rows[: same[-1] + 1])
        offsets = np.cumsum([0, *map(len, pieces)])
        source, new = np.concatenate([np.empty(0, np.int64), *pieces]), offsets[1:][is_new] - 1
        columns = {name: getattr(self, name)[source] for name in ("item", "label", "ts", "row", "split")}
        columns["item"][new], columns["label"][new], columns["row"][new], columns["split"][new] = items[is_new], 0, -1, TEST
        return Interactions(
            user=np.repeat(np.arange(len(pieces), dtype=np.int32), np.diff(offsets)),
            offsets=offsets,
            user_ids=[self.user_ids[user] for user in users],
            item_ids=self.item_ids,
            item_in_train=self.item_in_train,
            **columns,
        )

    def cells(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """For each row whether its user, and whether its item, occurs in train."""
        user_in_train = np.zeros(len(self.user_ids), bool)
        user_in_train[self.user[self.split == TRAIN]] = True
        return user_in_train[self.user], self.item_in_train[self.item]

    def _shown(self, policy: Policy, dislikes: bool) -> NDArray[np.int64]:
        """Positions of the rows that a history may show."""
        if policy == "rolling":
            return self._liked_positions
        return self._train_positions if dislikes else self._liked_train_positions

    @cached_property
    def _train_positions(self) -> NDArray[np.int64]:
        return np.flatnonzero(self.split == TRAIN)

    @cached_property
    def _liked_positions(self) -> NDArray[np.int64]:
        return np.flatnonzero(self.label == 1)

    @cached_property
    def _liked_train_positions(self) -> NDArray[np.int64]:
        return np.flatnonzero((self.label == 1) & (self.split == TRAIN))


def _codes() -> pl.Schema:
    """The columns that are read, as integers."""
    import polars as pl

    return pl.Schema({"user_id": pl.Int32, "item_id": pl.Int32, "label": pl.Int8, "ts": pl.Int64, "row": pl.Int64, "split": pl.Int8})


def _coded(file: Path, users: Collection[str] | None, kinds: Mapping[str, pl.Enum]) -> pl.DataFrame:
    """One bucket with integers in place of strings: strings of one bucket at a time are all that memory must hold."""
    import polars as pl

    rows = pl.read_parquet(file, columns=_codes().names(), hive_partitioning=False)
    if users is not None:
        rows = rows.filter(pl.col("user_id").is_in(list(users)))
    return rows.with_columns(pl.col(name).cast(kind).to_physical() for name, kind in kinds.items()).cast(_codes())
