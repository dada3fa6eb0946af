"""Which rows make up which batch: a pure function of (seed, step), the same for every number of workers.

A batch is made of runs: `run_length` rows that must stay together (rows of one user when the pairwise term is on, else single rows). Rows
that share a history are shuffled together; where a batch ends among them, the rest begins the next one.
Rows come in parts, of which the users of a bucket fill a few. In every epoch the parts are shuffled and dealt to windows of about
WINDOW_ROWS rows, and the rows of a window are shuffled: so memory holds one window, however many rows there are, and a log of less than a
window is shuffled whole. Buckets are a hash of the user, so a window is a fair sample of the users.
Plain and trace rows mix in a fixed share. Which worker computes which row of a batch is another question, see micro_batches.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from thinkrec.errors import DataError

Indices = NDArray[np.int64]
WINDOW_ROWS = 2**18
NO_TRACES = np.zeros(0, np.int64)


class Keys(Protocol):
    """Whose the rows of each part are; rows are numbered through all parts."""

    @property
    def counts(self) -> Indices:
        """Rows of each part, (P,)."""

    def keys(self, part: int) -> tuple[Indices, Indices]:
        """Of each row of a part its user and its snapshot: equal numbers, which do not fall, for rows that share a history."""


@dataclass(frozen=True)
class Whole:
    """All rows in one part, by their users (N,) and snapshots (N,); without those every row has its own history."""

    users: Indices
    snapshots: Indices | None = None

    @property
    def counts(self) -> Indices:
        return np.array([len(self.users)])

    def keys(self, part: int) -> tuple[Indices, Indices]:
        return self.users, np.arange(len(self.users)) if self.snapshots is None else self.snapshots


@dataclass(frozen=True)
class Strangers:
    """Rows that have nothing in common, so many in each part."""

    counts: Indices

    def keys(self, part: int) -> tuple[Indices, Indices]:
        numbers = np.arange(self.counts[part])
        return numbers, numbers


class Runs:
    """An endless sequence of row numbers; every epoch shows each row at least once, in an order of its own.

    Rows with the same snapshot stay side by side, and so do runs of `run_length` rows of one user.
    """

    def __init__(self, rows: Keys, run_length: int, seed: tuple[int, ...], window_rows: int = WINDOW_ROWS) -> None:
        self.run_length, self.seed, self.window_rows = run_length, seed, window_rows
        self._rows, counts = rows, rows.counts
        self._first = np.cumsum(counts) - counts  # row of each part
        filled = counts if run_length == 1 else [_filled(rows.keys(part)[0], run_length) for part in range(len(counts))]
        self._shown = np.array(filled, np.int64)  # rows that an epoch shows of each part
        self.num_rows = int(self._shown.sum())
        self._epoch: tuple[int, list[Indices], Indices] = (-1, [], np.empty(0, np.int64))
        self._window: tuple[tuple[int, int], Indices] = ((-1, -1), np.empty(0, np.int64))

    def take(self, position: int, num_rows: int) -> Indices:
        """(num_rows,) from this position of the sequence on."""
        taken = []
        while num_rows:
            epoch, offset = divmod(position, self.num_rows)
            begin, rows = self._window_at(epoch, offset)
            taken.append(rows[offset - begin :][:num_rows])
            num_rows -= len(taken[-1])
            position += len(taken[-1])
        return np.concatenate(taken)

    def _window_at(self, epoch: int, offset: int) -> tuple[int, Indices]:
        """Where in the epoch the window begins that holds this place of it, and its rows."""
        if self._epoch[0] != epoch:
            self._epoch = (epoch, *self._windows(epoch))
        _, windows, ends = self._epoch
        number = int(np.searchsorted(ends, offset, side="right"))
        if self._window[0] != (epoch, number):
            self._window = ((epoch, number), self._shuffled(windows[number], np.random.default_rng((*self.seed, epoch, number + 1))))
        return (int(ends[number - 1]) if number else 0), self._window[1]

    def _windows(self, epoch: int) -> tuple[list[Indices], Indices]:
        """The parts of each window, and the place in the epoch where it ends."""
        parts = np.random.default_rng((*self.seed, epoch)).permutation(np.flatnonzero(self._shown))
        begins = (np.cumsum(self._shown[parts]) - self._shown[parts]) // self.window_rows
        windows = [np.sort(parts[begins == number]) for number in np.unique(begins)]
        return windows, np.cumsum([self._shown[window].sum() for window in windows])

    def _shuffled(self, parts: Indices, generator: np.random.Generator) -> Indices:
        """The rows of a window, runs and snapshots kept together."""
        keys = [self._rows.keys(part) for part in parts.tolist()]
        numbers = np.concatenate([self._first[part] + np.arange(len(users)) for part, (users, _) in zip(parts, keys, strict=True)])
        users, snapshots = (_numbered([pair[which] for pair in keys]) for which in (0, 1))
        key = generator.permutation(snapshots.max() + 1)[snapshots]
        if self.run_length == 1:
            return numbers[np.argsort(key, kind="stable")]
        runs = _runs(np.lexsort((key, users)), users, self.run_length)
        generator.shuffle(runs)
        return numbers[runs.reshape(-1)]


def _numbered(parts: list[Indices]) -> Indices:
    """The keys of several parts, numbered from 0 on; no two parts have one in common."""
    places = [np.unique(part, return_inverse=True)[1] for part in parts]
    firsts = np.cumsum([0, *(place.max() + 1 for place in places[:-1])])
    return np.concatenate([first + place for first, place in zip(firsts, places, strict=True)])


def _filled(users: Indices, run_length: int) -> int:
    """Rows of a part once every user's rows fill whole runs."""
    _, counts = np.unique(users, return_counts=True)
    return int(np.ceil(counts / run_length).sum()) * run_length


def _runs(rows: Indices, users: Indices, run_length: int) -> Indices:
    """(num_runs, run_length) of rows by user; one whose rows do not fill the last run starts over with the first of them."""
    _, counts = np.unique(users, return_counts=True)
    filled = (np.ceil(counts / run_length) * run_length).astype(np.int64)
    starts = np.repeat(np.cumsum(counts) - counts, filled)
    within = np.arange(filled.sum()) - np.repeat(np.cumsum(filled) - filled, filled)
    runs: Indices = rows[starts + within % np.repeat(counts, filled)].reshape(-1, run_length)
    return runs


class Order:
    """Batches of plain rows 0 .. N-1 and trace rows N .. N + num_traces - 1; `traces`: how many trace rows each part of those has."""

    def __init__(self, rows: Keys, traces: Indices, batch_size: int, run_length: int, trace_share: float, seed: int) -> None:
        self._first_trace, num_traces = int(rows.counts.sum()), int(traces.sum())
        if not self._first_trace:
            raise DataError("there is no train row to learn from", "train", "look at the split and at this cluster's users")
        runs = batch_size // run_length
        trace_runs = min(max(round(runs * trace_share), 1), runs - 1) if num_traces and trace_share else 0
        self._num_plain, self._num_traces = (runs - trace_runs) * run_length, trace_runs * run_length
        self._plain = Runs(rows, run_length, (seed, 1))
        # Single trace rows also where runs are longer: the pairwise term looks at users, so strangers in one run cost nothing.
        self._traces = Runs(Strangers(traces), 1, (seed, 2)) if trace_runs else None

    @property
    def epoch_steps(self) -> int:
        """Steps until every plain row was shown once."""
        return -(-self._plain.num_rows // self._num_plain)

    def num_steps(self, num_epochs: float, max_steps: int = 0) -> int:
        """Steps that show the plain rows `num_epochs` times; at least one, at most `max_steps` if that is not 0."""
        steps = max(1, round(num_epochs * self._plain.num_rows / self._num_plain))
        return min(steps, max_steps) if max_steps else steps

    def batch(self, step: int) -> Indices:
        """Row numbers of the whole batch of this step, (batch_size,), traces last; consecutive `run_length` rows are a run."""
        rows = self._plain.take(step * self._num_plain, self._num_plain)
        if self._traces is None:
            return rows
        return np.concatenate([rows, self._first_trace + self._traces.take(step * self._num_traces, self._num_traces)])
