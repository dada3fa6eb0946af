"""From prompts and answers to the tensors of one batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from thinkrec.prompt.template import Prompt


@dataclass
class Batch:
    """Right-padded rows ready for the model; every tensor's first axis is rows (R) unless said otherwise.

    input_ids (R, T) int64. verdict_at (R,): the position whose output is the verdict. answer_rows, answer_at, answer_ids (N,): the answer
    tokens, and the positions that predict them. slot_rows, slot_at (S,), slot_vectors (S, d): the soft slots. gates: see
    adapters.Gates. user (R,): equal numbers are one user. label, w_rec, w_think (R,) float32; weight (R,) float32: the loss is the sum of
    weight times the row's loss.
    """

    input_ids: Tensor
    verdict_at: Tensor
    answer_rows: Tensor
    answer_at: Tensor
    answer_ids: Tensor
    slot_rows: Tensor
    slot_at: Tensor
    slot_vectors: Tensor
    gates: Tensor
    user: Tensor
    label: Tensor
    w_rec: Tensor
    w_think: Tensor
    weight: Tensor

    def to(self, device: torch.device | str) -> Batch:
        return Batch(**{name: tensor.to(device) for name, tensor in vars(self).items()})

    @property
    def num_tokens(self) -> int:
        """ArtefactPaths the model computes, padding included."""
        return self.input_ids.numel()


@dataclass(frozen=True)
class Instance:
    """One instance: the prompt, the answer with the index of its verdict token, and its columns."""

    prompt: Prompt
    answer: list[int]
    verdict_index: int
    user: int
    label: float
    w_rec: float
    w_think: float

    @property
    def ids(self) -> list[int]:
        """What the model reads: all but the last token, which is only predicted."""
        return self.prompt.ids + self.answer[:-1]

    @property
    def num_tokens(self) -> int:
        return len(self.prompt.prefix) + len(self.prompt.suffix) + len(self.answer) - 1


def collate(
    rows: Sequence[Instance],
    gates: Tensor,
    vectors: Tensor | None,
    user_vectors: Tensor | None,
    pad_id: int,
    text_loss: bool = True,
    weight: Tensor | None = None,
) -> Batch:
    """Pad and index `rows`; `vectors` (num_items, d) and `user_vectors` (num_users, d) fill the soft slots.

    The verdict's score is read where the model is about to say it: one place before the verdict token of the answer. Without `text_loss`
    no row carries answer tokens; it is one setting of a whole run, because ranks that call different layers hang under ZeRO-3. `weight`
    (R,) makes the loss another sum than the mean of the rows.
    """
    ids = [row.ids for row in rows]
    input_ids = torch.full((len(rows), max(map(len, ids))), pad_id, dtype=torch.int64)
    for at, row_ids in enumerate(ids):
        input_ids[at, : len(row_ids)] = torch.tensor(row_ids)
    starts = [len(row.prompt.ids) - 1 for row in rows]
    answers = [(at, starts[at] + place, token) for at, row in enumerate(rows) for place, token in enumerate(row.answer) if text_loss]
    slots = [(at, place, owner) for at, row in enumerate(rows) for place, owner in row.prompt.slots]
    answer_table = torch.tensor(answers, dtype=torch.int64).reshape(-1, 3)
    slot_table = torch.tensor(slots, dtype=torch.int64).reshape(-1, 3)
    users = torch.tensor([row.user for row in rows])
    return Batch(
        input_ids=input_ids,
        verdict_at=torch.tensor([start + row.verdict_index for start, row in zip(starts, rows, strict=True)]),
        answer_rows=answer_table[:, 0],
        answer_at=answer_table[:, 1],
        answer_ids=answer_table[:, 2],
        slot_rows=slot_table[:, 0],
        slot_at=slot_table[:, 1],
        slot_vectors=_slot_vectors(slot_table, users, vectors, user_vectors),
        gates=gates,
        user=users,
        label=torch.tensor([row.label for row in rows], dtype=torch.float32),
        w_rec=torch.tensor([row.w_rec for row in rows], dtype=torch.float32),
        w_think=torch.tensor([row.w_think for row in rows], dtype=torch.float32),
        weight=torch.full((len(rows),), 1 / len(rows)) if weight is None else weight,
    )


def _slot_vectors(slots: Tensor, users: Tensor, vectors: Tensor | None, user_vectors: Tensor | None) -> Tensor:
    if not len(slots) or vectors is None or user_vectors is None:
        return torch.zeros(0, 0)
    rows, owners = slots[:, 0], slots[:, 2]
    return torch.where((owners < 0)[:, None], user_vectors[users[rows]], vectors[owners.clamp_min(0)])
