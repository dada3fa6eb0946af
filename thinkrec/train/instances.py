"""What an adapter learns from: rows of the artefact `instances` with the columns of their kind (D22), and the batches of a step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from thinkrec.artefacts.instances import Form, Records, read_instance_facts
from thinkrec.config.run import Config
from thinkrec.model.batch import Batch, Instance
from thinkrec.model.prefix_batch import share_prefixes
from thinkrec.prompt.catalogue import ArtefactPaths, base_folder, load_item_vectors
from thinkrec.prompt.template import Prompt, verdict_ids
from thinkrec.prompt.tokenizer import load_tokenizer
from thinkrec.train.micro_batches import deal
from thinkrec.train.order import Indices, Order
from thinkrec.train.parts import Parts, Rows


@dataclass(frozen=True)
class TrainInputs:
    """All that a training worker reads beside the base: train rows, traces, and what fills soft slots, None without any."""

    rows: Parts
    traces: Parts
    item_vectors: Tensor | None  # (num_items, d)
    verdict_ids: tuple[int, int]

    @classmethod
    def load(cls, config: Config, places: ArtefactPaths, stage: str = "instances", slots: bool = True) -> TrainInputs:
        """With `slots=False` prompts have no soft slots whatever the config says."""
        folder, soft = places.path(stage), slots and config.prompt.slots != "none"
        facts = read_instance_facts(folder)
        form: Form = "soft" if soft else "plain"
        rows, traces = Parts.stored(folder, form, "rows", facts), Parts.stored(folder, form, "traces", facts)
        vectors = load_item_vectors(places) if soft else None
        return cls(rows, traces, vectors, verdict_ids(load_tokenizer(base_folder(places))))

    def instances(self, config: Config) -> Instances:
        """All of them."""
        return Instances(config, Rows(self.rows), Rows(self.traces), self.item_vectors)


class Instances:
    """Rows of one training set by number: plain rows first, then traces."""

    def __init__(self, config: Config, rows: Rows, traces: Rows, item_vectors: Tensor | None = None) -> None:
        self.config, self.rows, self.traces, self.item_vectors = config, rows, traces, item_vectors
        loss = config.train.loss
        self.text_loss = bool(loss.plain_think or (len(traces) and loss.trace_think))

    def order(self, batch_size: int, seed: int) -> Order:
        loss = self.config.train.loss
        run_length = loss.rows_per_user if loss.rank > 0 else 1
        return Order(self.rows, self.traces.counts, batch_size, run_length, self.config.train.trace_share, seed)

    def row(self, number: int) -> Instance:
        """The row of this number with its columns; users of all buckets have numbers of their own."""
        loss, is_trace = self.config.train.loss, number >= len(self.rows)
        bucket, records, at = self._find(number)
        record = int(records.record_of(np.array([at]))[0])
        prefix, answer, slot = records.prefix[record], records.answer[at], int(records.slot[at])
        slots = list(zip(records.slot_at[record], records.slot_owner[record], strict=True))
        slots += [(len(prefix) + slot, int(records.item[at]))] * (slot >= 0)
        return Instance(
            prompt=Prompt(prefix, records.suffix[at], slots),
            answer=answer,
            verdict_index=0 if self.config.prompt.answer == "first" else len(answer) - 2,
            user=bucket << 32 | int(records.user[record]),
            label=float(records.label[at]),
            w_rec=loss.trace_rec if is_trace else loss.plain_rec,
            w_think=loss.trace_think if is_trace else loss.plain_think,
            offset=float(records.offset[at]),
        )

    def vector(self, number: int) -> NDArray[np.float32]:
        """(d,) the vector of the row's user, for prompts with soft slots."""
        _, records, at = self._find(number)
        assert records.vector is not None
        found: NDArray[np.float32] = records.vector[records.record_of(np.array([at]))[0]]
        return found

    def _find(self, number: int) -> tuple[int, Records, int]:
        return self.traces.find(number - len(self.rows)) if number >= len(self.rows) else self.rows.find(number)


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
    """One worker's micro batches of a step on rows of several training sets, see micro_batches.py.

    The i-th row is row `numbers[i]` of `sets[slots[i]]`, for the adapter in that slot, and its loss counts `weight[i]` times. Every worker
    looks at all rows of the step: so it knows, without asking, what the others take.
    """
    found = [sets[slot].row(int(number)) for slot, number in zip(slots, numbers, strict=True)]
    _, first, user = np.unique([row.user for row in found], return_index=True, return_inverse=True)
    rows = [replace(row, user=int(at)) for row, at in zip(found, user, strict=True)]
    vectors, user_vectors = sets[0].item_vectors, None
    if vectors is not None:
        user_vectors = torch.from_numpy(np.stack([sets[slots[at]].vector(int(numbers[at])) for at in first]))
    gates, weights, text_loss = torch.from_numpy(slots), torch.from_numpy(weight), any(one.text_loss for one in sets)
    for at in deal(rows, gates, max_tokens, num_workers, run_length)[worker]:
        yield share_prefixes([rows[number] for number in at], gates[at], vectors, user_vectors, text_loss, weights[at])
