"""Which rows make up which batch: a pure function of (seed, step), the same for every number of workers.

A batch is made of runs: `run_length` rows that must stay together (rows of one user when the pairwise term is on, else single rows). Rows
that share a history are shuffled together; where a batch ends among them, the rest begins the next one.
Plain and trace rows mix in a fixed share. Which worker computes which row of a batch is another question, see micro_batches.py.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from thinkrec.errors import DataError

Indices = NDArray[np.int64]


class Runs:
    """An endless sequence of row numbers; every epoch shows each row at least once, in an order of its own.

    Rows with the same number in `snapshots`, which does not fall, stay side by side, and so do runs of `run_length` rows of one user.
    """

    def __init__(self, users: Indices, snapshots: Indices, run_length: int, seed: tuple[int, ...]) -> None:
        self.run_length, self.seed = run_length, seed
        self._users = users
        _, self._first, self._snapshot = np.unique(snapshots, return_index=True, return_inverse=True)
        _, self._counts = np.unique(users, return_counts=True)
        self.num_rows = int(np.ceil(self._counts / run_length).sum()) * run_length
        self._epoch: tuple[int, Indices] = (-1, np.empty(0, np.int64))

    def take(self, position: int, num_rows: int) -> Indices:
        """(num_rows,) from this position of the sequence on."""
        taken = []
        while num_rows:
            epoch, offset = divmod(position, self.num_rows)
            taken.append(self._of_epoch(epoch)[offset : offset + num_rows])
            num_rows -= len(taken[-1])
            position += len(taken[-1])
        return np.concatenate(taken)

    def _of_epoch(self, epoch: int) -> Indices:
        if self._epoch[0] != epoch:
            generator = np.random.default_rng((*self.seed, epoch))
            key = generator.random(len(self._first))
            if self.run_length == 1:
                shuffled = np.lexsort((key, self._users[self._first]))
                generator.shuffle(shuffled)
                place = np.empty(len(shuffled), np.int64)
                place[shuffled] = np.arange(len(shuffled))
                rows = np.argsort(place[self._snapshot], kind="stable")
            else:
                rows = self._runs(np.lexsort((key[self._snapshot], self._users)))
                generator.shuffle(rows)
                rows = rows.reshape(-1)
            self._epoch = (epoch, rows)
        return self._epoch[1]

    def _runs(self, rows: Indices) -> Indices:
        """(num_runs, run_length) of rows by user; one whose rows do not fill the last run starts over with the first of them."""
        filled = (np.ceil(self._counts / self.run_length) * self.run_length).astype(np.int64)
        starts = np.repeat(np.cumsum(self._counts) - self._counts, filled)
        within = np.arange(filled.sum()) - np.repeat(np.cumsum(filled) - filled, filled)
        runs: Indices = rows[starts + within % np.repeat(self._counts, filled)].reshape(-1, self.run_length)
        return runs


class Order:
    """Batches of plain rows 0 .. N-1 and trace rows N .. N + num_traces - 1.

    `users` (N,) names each plain row's user, and `snapshots` (N,) by equal numbers the rows that share a history; None: every row has its
    own.
    """

    def __init__(
        self,
        users: Indices,
        num_traces: int,
        batch_size: int,
        run_length: int,
        trace_share: float,
        seed: int,
        snapshots: Indices | None = None,
    ) -> None:
        if not len(users):
            raise DataError("there is no train row to learn from", "train", "look at the split and at this cluster's users")
        runs = batch_size // run_length
        trace_runs = min(max(round(runs * trace_share), 1), runs - 1) if num_traces and trace_share else 0
        self._num_plain, self._num_traces = (runs - trace_runs) * run_length, trace_runs * run_length
        self._plain = Runs(users, np.arange(len(users)) if snapshots is None else snapshots, run_length, (seed, 1))
        # Single trace rows also where runs are longer: the pairwise term looks at users, so strangers in one run cost nothing.
        numbers = np.arange(num_traces)
        self._traces = Runs(numbers, numbers, 1, (seed, 2)) if trace_runs else None
        self._first_trace = len(users)

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
