"""Which rows make up which batch: a pure function of (seed, step), the same for every number of workers.

A batch is made of runs: `run_length` rows that must stay together (rows of one user when the pairwise term is on, else single rows).
Plain and trace rows mix in a fixed share. Which worker computes which row of a batch is another question, see micro_batches.py.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from thinkrec.errors import DataError

Indices = NDArray[np.int64]


class Runs:
    """An endless sequence of runs of row numbers; every epoch shows each row at least once, in an order of its own."""

    def __init__(self, users: Indices, run_length: int, seed: tuple[int, ...]) -> None:
        self.run_length, self.seed = run_length, seed
        self._users = users
        _, self._counts = np.unique(users, return_counts=True)
        self.num_runs = int(np.ceil(self._counts / run_length).sum())
        self._epoch: tuple[int, Indices] = (-1, np.empty((0, run_length), np.int64))

    def take(self, position: int, num_runs: int) -> Indices:
        """(num_runs, run_length) from this position of the sequence on."""
        taken = []
        while num_runs:
            epoch, offset = divmod(position, self.num_runs)
            taken.append(self._of_epoch(epoch)[offset : offset + num_runs])
            num_runs -= len(taken[-1])
            position += len(taken[-1])
        return np.concatenate(taken)

    def _of_epoch(self, epoch: int) -> Indices:
        if self._epoch[0] != epoch:
            generator = np.random.default_rng((*self.seed, epoch))
            shuffled = np.lexsort((generator.random(len(self._users)), self._users))
            # A user whose rows do not fill the last run starts over with the first of them.
            filled = (np.ceil(self._counts / self.run_length) * self.run_length).astype(np.int64)
            starts = np.repeat(np.cumsum(self._counts) - self._counts, filled)
            within = np.arange(filled.sum()) - np.repeat(np.cumsum(filled) - filled, filled)
            runs = shuffled[starts + within % np.repeat(self._counts, filled)].reshape(-1, self.run_length)
            generator.shuffle(runs)
            self._epoch = (epoch, runs)
        return self._epoch[1]


class Order:
    """Batches of plain rows 0 .. N-1 (`users` names each one's user) and trace rows N .. N + num_traces - 1."""

    def __init__(self, users: Indices, num_traces: int, batch_size: int, run_length: int, trace_share: float, seed: int) -> None:
        if not len(users):
            raise DataError("there is no train row to learn from", "train", "look at the split and at this cluster's users")
        self.seed, self.run_length = seed, run_length
        self._num_runs = batch_size // run_length
        self._num_trace_runs = min(max(round(self._num_runs * trace_share), 1), self._num_runs - 1) if num_traces and trace_share else 0
        self._plain = Runs(users, run_length, (seed, 1))
        # Single trace rows, gathered into runs: the pairwise term looks at users, so strangers in one run cost nothing.
        self._traces = Runs(np.arange(num_traces), 1, (seed, 2)) if self._num_trace_runs else None
        self._first_trace = len(users)

    @property
    def epoch_steps(self) -> int:
        """Steps until every plain row was shown once."""
        return -(-self._plain.num_runs // (self._num_runs - self._num_trace_runs))

    def num_steps(self, num_epochs: float, max_steps: int = 0) -> int:
        """Steps that show the plain rows `num_epochs` times; at least one, at most `max_steps` if that is not 0."""
        steps = max(1, round(num_epochs * self._plain.num_runs / (self._num_runs - self._num_trace_runs)))
        return min(steps, max_steps) if max_steps else steps

    def batch(self, step: int) -> Indices:
        """Row numbers of the whole batch of this step, (batch_size,), traces last; consecutive `run_length` rows are a run."""
        num_plain = self._num_runs - self._num_trace_runs
        rows = self._plain.take(step * num_plain, num_plain).reshape(-1)
        if self._traces is None:
            return rows
        num_rows = self._num_trace_runs * self.run_length
        return np.concatenate([rows, self._first_trace + self._traces.take(step * num_rows, num_rows)[:, 0]])
