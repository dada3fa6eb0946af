"""The record batches of the artefact `instances` as numbered parts, and their rows by number: all of them, or those of one cluster.

Files are mapped: whatever is read of them is the kernel's to keep or to drop. What is made of them is bounded by the windows of order.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from thinkrec.artefacts.instances import Form, InstanceFacts, Kind, Records, open_instances
from thinkrec.store.cache import hold
from thinkrec.train.order import WINDOW_ROWS, Indices

NUM_FILES = 256  # open at a time: those of a log that is cut by itself; a system lets a process have 1024 or more
NUM_VIEWS = 1024  # of parts, 16 KB each; of an open file another is made in less than 0.1 ms


@dataclass(frozen=True)
class Parts:
    """P record batches: the bucket and the rows of each, (P,), and what reads one."""

    bucket: Indices
    counts: Indices
    records: Callable[[int], Records]
    copy_lock: IO[str] | None = None  # keeps a copy of a remote artefact from the sweep of the cache, see store.cache.hold

    @classmethod
    def held(cls, batches: Iterable[pa.RecordBatch]) -> Parts:
        """Of one bucket, in memory."""
        records = [Records.of(batch) for batch in batches]
        counts = np.array([len(one.row) for one in records], np.int64)
        return cls(np.zeros_like(counts), counts, records.__getitem__)

    @classmethod
    def stored(cls, folder: Path, form: Form, kind: Kind, facts: InstanceFacts) -> Parts:
        """Those of an artefact, which are read by path for as long as an adapter learns."""
        bucket, number, counts = facts.batches(kind)
        opened = lru_cache(NUM_FILES)(partial(open_instances, folder, form, kind))

        def records(part: int) -> Records:
            return Records.of(opened(int(bucket[part])).get_batch(int(number[part])))

        return cls(bucket, counts, lru_cache(NUM_VIEWS)(records), hold(folder))


class Rows:
    """Rows of parts, numbered through all of them (see order.Keys); `chosen` says which rows of a part belong, all if it is None."""

    def __init__(self, parts: Parts, counts: Indices | None = None, chosen: Callable[[int], Indices] | None = None) -> None:
        self.parts, self.counts = parts, parts.counts if counts is None else counts
        self._chosen = chosen and lru_cache(_num_in_windows(self.counts))(chosen)
        self._ends = np.cumsum(self.counts)

    def __len__(self) -> int:
        return int(self.counts.sum())

    def keys(self, part: int) -> tuple[Indices, Indices]:
        """The user and the snapshot of each row of a part."""
        records = self.parts.records(part)
        at = records.record_of(self._rows(part))
        return records.user[at].astype(np.int64), records.snapshot[at]

    def find(self, number: int) -> tuple[int, Records, int]:
        """Bucket and records of this row, and its place among the rows of those."""
        part = int(np.searchsorted(self._ends, number, side="right"))
        local = number - int(self._ends[part] - self.counts[part])
        return int(self.parts.bucket[part]), self.parts.records(part), local if self._chosen is None else int(self._chosen(part)[local])

    def _rows(self, part: int) -> Indices:
        return np.arange(self.parts.counts[part]) if self._chosen is None else self._chosen(part)


class Clustered:
    """Rows of parts by the cluster of their users; `clusters` holds those of each bucket's users, NO_CLUSTER for none."""

    def __init__(self, parts: Parts, clusters: Sequence[NDArray[np.int16]], num_clusters: int) -> None:
        self.parts, self.num_clusters, self._clusters = parts, num_clusters, clusters

    @cached_property
    def counts(self) -> Indices:
        """(K, P) rows of each cluster and part."""
        return self._sums(lambda records: np.diff(records.targets))

    def tokens(self) -> Indices:
        """(K, P) tokens of their prompts; rows that share a history have it once."""
        return self._sums(lambda records: records.prefix.lengths + np.add.reduceat(records.suffix.lengths, records.targets[:-1]))

    def _sums(self, of: Callable[[Records], Indices]) -> Indices:
        """(K, P) sums of what `of` finds of each record."""
        found = np.zeros((self.num_clusters, len(self.parts.counts)), np.int64)
        for part in range(len(self.parts.counts)):
            cluster, values = self.of_records(part), of(self.parts.records(part))
            found[:, part] = np.bincount(cluster[cluster >= 0], values[cluster >= 0], self.num_clusters)
        return found

    def of_records(self, part: int) -> NDArray[np.int16]:
        """The cluster of each record of a part, NO_CLUSTER for none."""
        return self._clusters[int(self.parts.bucket[part])][self.parts.records(part).user]

    def rows(self, cluster: int) -> Rows:
        """The rows of one cluster."""

        def chosen(part: int) -> Indices:
            targets = self.parts.records(part).targets
            return np.flatnonzero(np.repeat(self.of_records(part) == cluster, np.diff(targets)))

        return Rows(self.parts, self.counts[cluster], chosen)


def _num_in_windows(counts: Indices) -> int:
    """Parts with rows in two windows, where a batch may lie; of one cluster among many a window has rows of many parts."""
    return min(len(counts), int(np.ceil(2 * WINDOW_ROWS * np.count_nonzero(counts) / max(1, counts.sum()))))
