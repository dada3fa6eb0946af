"""What a data set is, in a page of JSON: counts, like rates and times of each split, cold cells, and a digest of the content.

Users lie in one bucket each, so a bucket is measured by itself and the parts add up; items are counted over all buckets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from thinkrec.artefacts.ingest import SPLITS, Fingerprint, SplitFacts
from thinkrec.data.split import iso

SLICE_ROWS = 500_000
DIGEST_BITS = 256
CONTENT = np.dtype([("item", "<i4"), ("ts", "<i8"), ("rating", "<f4"), ("label", "i1"), ("split", "i1"), ("row", "<i8")])
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class SplitPart:
    """The rows of one split in one bucket."""

    num_rows: int
    num_likes: int
    num_users: int
    rates: NDArray[np.float64]  # like rates of users, each once
    num_users_at: Ints  # users with each of these rates
    span: tuple[int, int]  # first and last time; 0 where there is none
    new_users: tuple[Ints, Ints]  # places of the items of the rows whose user train has not, and how many rows each
    old_users: tuple[Ints, Ints]


@dataclass(frozen=True)
class Part:
    """One bucket. `digest` is a sum over its users: the same whatever the buckets."""

    num_rows: int
    num_users: int
    splits: Mapping[str, SplitPart]
    digest: int


def measure(rows: pl.DataFrame) -> Part:
    """The part of one bucket's rows (spill.ROWS, with their split), sorted by (user_id, ts, row)."""
    user = rows["user_id"].rle_id().to_numpy().astype(np.int64)
    item, label = rows["item"].to_numpy().astype(np.int64), rows["label"].to_numpy()
    split = rows["split"].cast(pl.Enum(SPLITS)).to_physical().to_numpy()
    num_users = int(user[-1]) + 1 if len(user) else 0
    is_old = np.zeros(num_users, bool)
    is_old[user[split == 0]] = True
    splits = {name: _part(split == n, user, item, label, rows["ts"].to_numpy(), is_old) for n, name in enumerate(SPLITS)}
    return Part(len(rows), num_users, splits, _digest(rows, user, split))


class Totals:
    """The parts of all buckets, added up as they come: memory holds numbers of the items, and of the different like rates of users."""

    def __init__(self, num_items: int) -> None:
        self.num_rows = self.num_users = self.digest = 0
        self._splits = {name: _SplitTotals(num_items) for name in SPLITS}

    def add(self, part: Part) -> None:
        """Count one more bucket."""
        self.num_rows += part.num_rows
        self.num_users += part.num_users
        self.digest = (self.digest + part.digest) % 2**DIGEST_BITS
        for name, split in part.splits.items():
            self._splits[name].add(split)

    @property
    def likes(self) -> dict[str, tuple[int, int]]:
        """Likes and rows of each split."""
        return {name: (split.num_likes, split.num_rows) for name, split in self._splits.items()}

    def facts(self, items: pa.Table, quarantined: Mapping[str, int]) -> Fingerprint:
        """The fingerprint, with the items in their order, and the refused rows by reason."""
        known = self._splits[SPLITS[0]].seen
        return {
            "num_rows": self.num_rows,
            "num_users": self.num_users,
            "num_items": items.num_rows,
            "quarantined": dict(sorted(quarantined.items())),
            "splits": {name: split.facts() for name, split in self._splits.items()},
            "cells": {name: self._splits[name].cells(known) for name in SPLITS[1:]},
            "sha256": hashlib.sha256(f"{self.digest:x} {table_digest(pl.DataFrame(items))}".encode()).hexdigest(),
        }


class _SplitTotals:
    def __init__(self, num_items: int) -> None:
        self.num_rows = self.num_likes = self.num_users = 0
        self.seen = np.zeros(num_items, bool)
        self._num_rows = np.zeros((2, num_items), np.int64)  # by whether train has the user
        self._rates, self._num_users_at = np.empty(0), np.empty(0, np.int64)
        self._spans: list[tuple[int, int]] = []

    def add(self, part: SplitPart) -> None:
        self.num_rows += part.num_rows
        self.num_likes += part.num_likes
        self.num_users += part.num_users
        for side, (items, num_rows) in enumerate((part.new_users, part.old_users)):
            self.seen[items] = True
            self._num_rows[side, items] += num_rows
        both = np.concatenate([self._rates, part.rates]), np.concatenate([self._num_users_at, part.num_users_at])
        self._rates, place = np.unique(both[0], return_inverse=True)
        self._num_users_at = np.bincount(place, both[1], minlength=len(self._rates)).astype(np.int64)
        self._spans += [part.span] if part.num_rows else []

    def facts(self) -> SplitFacts:
        below = np.cumsum(self._num_users_at)
        return {
            "num_rows": self.num_rows,
            "num_users": self.num_users,
            "num_items": int(self.seen.sum()),
            "like_rate": self.num_likes / self.num_rows,
            "user_like_rate_deciles": [_quantile(self._rates, below, tenth / 10) for tenth in range(1, 10)],
            "from": iso(min(first for first, _ in self._spans)),
            "to": iso(max(last for _, last in self._spans)),
        }

    def cells(self, known: NDArray[np.bool_]) -> dict[str, int]:
        """Rows by whether train has seen their user and their item."""
        new, old = self._num_rows
        return {
            "user_seen_item_seen": int(old[known].sum()),
            "user_seen_item_new": int(old[~known].sum()),
            "user_new_item_seen": int(new[known].sum()),
            "user_new_item_new": int(new[~known].sum()),
        }


def headline(facts: Fingerprint) -> dict[str, float]:
    """The few numbers a progress line and a report's first table show."""
    rates = {f"like_rate_{name}": split["like_rate"] for name, split in facts["splits"].items()}
    counts = {f"num_{name}": split["num_rows"] for name, split in facts["splits"].items()}
    totals = {name: facts[name] for name in ("num_rows", "num_users", "num_items")}
    return totals | counts | rates | {"num_quarantined": sum(facts["quarantined"].values())}


def table_digest(table: pl.DataFrame) -> str:
    """SHA-256 of the rows as lines of JSON."""
    hasher = hashlib.sha256()
    for part in table.iter_slices(SLICE_ROWS):
        lines = BytesIO()
        part.write_ndjson(lines)
        hasher.update(lines.getbuffer())
    return hasher.hexdigest()


def _part(mask: NDArray[np.bool_], user: Ints, item: Ints, label: NDArray[np.int8], ts: Ints, is_old: NDArray[np.bool_]) -> SplitPart:
    user, item, label, ts = user[mask], item[mask], label[mask], ts[mask]
    num_rows, num_likes = np.bincount(user), np.bincount(user, label)
    there = num_rows > 0
    rates, num_users_at = np.unique(num_likes[there] / num_rows[there], return_counts=True)
    span = (int(ts.min()), int(ts.max())) if len(ts) else (0, 0)
    old = is_old[user]
    return SplitPart(
        len(user),
        int(label.sum()),
        int(there.sum()),
        rates,
        num_users_at,
        span,
        new_users=_counted(item[~old]),
        old_users=_counted(item[old]),
    )


def _counted(items: Ints) -> tuple[Ints, Ints]:
    places, counts = np.unique(items, return_counts=True)
    return places, counts


def _digest(rows: pl.DataFrame, user: Ints, split: NDArray[np.integer]) -> int:
    """The sum of every user's SHA-256: of the name, and of the rows in order."""
    content = np.zeros(len(rows), CONTENT)
    for name in ("item", "ts", "label", "row"):
        content[name] = rows[name].to_numpy()
    content["rating"], content["split"] = rows["rating"].fill_null(np.nan).to_numpy(), split
    starts = np.flatnonzero(np.diff(user, prepend=-1))
    ends, data = np.append(starts, len(rows))[1:], memoryview(content.tobytes())
    digest, size = 0, CONTENT.itemsize
    for name, start, end in zip(rows["user_id"].gather(starts), (starts * size).tolist(), (ends * size).tolist(), strict=True):
        hasher = hashlib.sha256(name.encode() + b"\0")
        hasher.update(data[start:end])
        digest += int.from_bytes(hasher.digest(), "big")
    return digest


def _quantile(values: NDArray[np.float64], below: Ints, share: float) -> float:
    """The linear quantile of ascending values that occur several times; `below` counts each value and all before it."""
    place = share * (int(below[-1]) - 1)
    low, high = values[np.searchsorted(below, [np.floor(place), np.ceil(place)], side="right")]
    return float(low + (high - low) * (place - np.floor(place)))
