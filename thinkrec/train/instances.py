"""Training instances: a plain row answers Yes or No, a trace row goes on to explain; kind and weights are columns (D22)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from thinkrec.artefacts.ingest import TRAIN
from thinkrec.artefacts.traces import TRACES_FILE, read_traces
from thinkrec.config.run import Config
from thinkrec.model.batch import Batch, Instance
from thinkrec.model.prefix_batch import share_prefixes
from thinkrec.prompt.catalogue import ArtefactPaths, PromptData
from thinkrec.train.micro_batches import deal
from thinkrec.train.order import Indices, Order


@dataclass(frozen=True)
class Trace:
    """A teacher's reasoning for one train row, by its position in Interactions."""

    position: int
    text: str


class Instances:
    """Rows of one training set by number: train positions first, then traces. `offsets`: of every row of the tables; None for 0."""

    def __init__(
        self,
        config: Config,
        tables: PromptData,
        positions: Indices,
        traces: Sequence[Trace],
        offsets: NDArray[np.float32] | None = None,
    ) -> None:
        self.config, self.tables, self.positions, self.traces = config, tables, positions, traces
        self.offsets = np.zeros(len(tables.interactions), np.float32) if offsets is None else offsets
        loss = config.train.loss
        self.text_loss = bool(loss.plain_think or (traces and loss.trace_think))

    def order(self, batch_size: int, seed: int) -> Order:
        loss = self.config.train.loss
        run_length = loss.rows_per_user if loss.rank > 0 else 1
        users = self.tables.interactions.user[self.positions].astype(np.int64)
        snapshots = self.tables.snapshots.end[self.positions] if self.tables.snapshots else None
        return Order(users, len(self.traces), batch_size, run_length, self.config.train.trace_share, seed, snapshots)

    def row(self, number: int) -> Instance:
        """The row of this number with its columns. A trace argues from the history that its teacher saw, so it keeps that one."""
        loss, template, data = self.config.train.loss, self.tables.template, self.tables.interactions
        trace = self.traces[number - len(self.positions)] if number >= len(self.positions) else None
        position = trace.position if trace else int(self.positions[number])
        answer = template.answer(bool(data.label[position]), trace.text if trace else "")
        return Instance(
            prompt=self.tables.prompt(position) if trace else self.tables.snapshot_prompt(position),
            answer=answer,
            verdict_index=0 if self.config.prompt.answer == "first" else len(answer) - 2,
            user=int(data.user[position]),
            label=float(data.label[position]),
            w_rec=loss.trace_rec if trace else loss.plain_rec,
            w_think=loss.trace_think if trace else loss.plain_think,
            offset=float(self.offsets[position]),
        )


def step_batches(
    sets: Sequence[Instances],
    slots: Indices,
    numbers: Indices,
    weight: NDArray[np.float32],
    max_tokens: int,
    worker: int = 0,
    num_workers: int = 1,
    run_length: int = 1,
) -> Iterator[Batch]:
    """One worker's micro batches of a step on rows of several training sets over the same tables, see micro_batches.py.

    The i-th row is row `numbers[i]` of `sets[slots[i]]`, for the adapter in that slot, and its loss counts `weight[i]` times. Every worker
    writes all rows of the step: so it knows, without asking, what the others take.
    """
    rows, tables = [sets[slot].row(int(number)) for slot, number in zip(slots, numbers, strict=True)], sets[0].tables
    gates, weights, text_loss = torch.from_numpy(slots), torch.from_numpy(weight), any(one.text_loss for one in sets)
    for at in deal(rows, gates, max_tokens, num_workers, run_length)[worker]:
        chosen = [rows[number] for number in at]
        yield share_prefixes(chosen, gates[at], tables.item_vectors, tables.user_vectors, text_loss, weights[at])


def train_positions(tables: PromptData) -> Indices:
    """Positions of the train rows."""
    return np.flatnonzero(tables.interactions.split == TRAIN)


def load_traces(config: Config, places: ArtefactPaths, tables: PromptData, stage: str = "traces") -> list[Trace]:
    """The accepted traces of a stage whose users are among the loaded interactions."""
    folder = places.path(stage)
    if not config.traces.enabled or not (folder / TRACES_FILE).is_file():
        return []
    import polars as pl

    data = tables.interactions
    position_of = pl.DataFrame({"row": data.row, "position": np.arange(len(data.row))})
    found = read_traces(folder, ["row", "text"]).join(position_of, on="row", how="inner", maintain_order="left", validate="m:1")
    return [Trace(position, text) for position, text in zip(found["position"], found["text"], strict=True)]
