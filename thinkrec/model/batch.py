"""The tensors of one batch, and instances padded into one; prefix_batch.py makes one without padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from thinkrec.model.prefix_tree import PrefixTree
from thinkrec.prompt.template import Prompt


@dataclass
class Batch:
    """R rows ready for the model, in B x T places: one row a line (B = R), or all in one line whose `tree` says who sees whom (B = 1).

    input_ids (B, T) int64. verdict_at (R,): the place whose output is the verdict; places count through all lines. answer_rows, answer_at,
    answer_ids (N,): the answer tokens, their rows and the places that predict them. slot_at (S,), slot_vectors (S, d): the soft slots.
    gates: of each row, see adapter_bank. user (R,): equal numbers are one user. label, w_rec, w_think (R,) float32; offset (R,) float32:
    log-odds that the model's score is added to in the loss; weight (R,) float32: the loss is the sum of weight times the row's loss.
    """

    input_ids: Tensor
    verdict_at: Tensor
    answer_rows: Tensor
    answer_at: Tensor
    answer_ids: Tensor
    slot_at: Tensor
    slot_vectors: Tensor
    gates: Tensor
    user: Tensor
    label: Tensor
    w_rec: Tensor
    w_think: Tensor
    offset: Tensor
    weight: Tensor
    tree: PrefixTree | None = None

    def to(self, device: torch.device | str) -> Batch:
        moved = {one.name: getattr(self, one.name).to(device) for one in fields(self) if one.name != "tree"}
        return Batch(**moved, tree=self.tree.to(device) if self.tree else None)

    @property
    def num_tokens(self) -> int:
        """Places the model computes, padding included."""
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
    offset: float = 0.0  # log-odds of the counted prior; 0 without one

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

    Without `text_loss` no row carries answer tokens; it is one setting of a whole run, because ranks that call different layers hang under
    ZeRO-3. `weight` (R,) makes the loss another sum than the mean of the rows.
    """
    width = max(row.num_tokens for row in rows)
    input_ids = torch.full((len(rows), width), pad_id, dtype=torch.int64)
    for at, row in enumerate(rows):
        input_ids[at, : row.num_tokens] = torch.tensor(row.ids)
    places = [range(at * width, at * width + row.num_tokens) for at, row in enumerate(rows)]
    return index_batch(rows, input_ids, places, gates, vectors, user_vectors, text_loss, weight)


def index_batch(
    rows: Sequence[Instance],
    input_ids: Tensor,
    places: Sequence[Sequence[int]],
    gates: Tensor,
    vectors: Tensor | None,
    user_vectors: Tensor | None,
    text_loss: bool,
    weight: Tensor | None,
    tree: PrefixTree | None = None,
) -> Batch:
    """The batch of `rows` whose tokens lie at `places` of `input_ids`, one sequence of places a row; the rest as in `collate`.

    The verdict's score is read where the model is about to say it: one place before the verdict token of the answer.
    """
    starts = [len(row.prompt.ids) - 1 for row in rows]
    said = [(at, place, token) for at, row in enumerate(rows) for place, token in enumerate(row.answer) if text_loss]
    slots = {places[at][place]: (row.user, owner) for at, row in enumerate(rows) for place, owner in row.prompt.slots}
    return Batch(
        input_ids=input_ids,
        verdict_at=_ints([places[at][start + row.verdict_index] for at, (start, row) in enumerate(zip(starts, rows, strict=True))]),
        answer_rows=_ints([at for at, _, _ in said]),
        answer_at=_ints([places[at][starts[at] + place] for at, place, _ in said]),
        answer_ids=_ints([token for _, _, token in said]),
        slot_at=_ints(list(slots)),
        slot_vectors=_slot_vectors(list(slots.values()), vectors, user_vectors),
        gates=gates,
        user=_ints([row.user for row in rows]),
        label=torch.tensor([row.label for row in rows], dtype=torch.float32),
        w_rec=torch.tensor([row.w_rec for row in rows], dtype=torch.float32),
        w_think=torch.tensor([row.w_think for row in rows], dtype=torch.float32),
        offset=torch.tensor([row.offset for row in rows], dtype=torch.float32),
        weight=torch.full((len(rows),), 1 / len(rows)) if weight is None else weight,
        tree=tree,
    )


def _ints(values: list[int]) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


def _slot_vectors(slots: list[tuple[int, int]], vectors: Tensor | None, user_vectors: Tensor | None) -> Tensor:
    """(S, d) for slots of (user, owner)."""
    if vectors is None or user_vectors is None:
        return torch.zeros(0, 0)
    users, owners = torch.tensor(slots, dtype=torch.int64).reshape(-1, 2).T
    return torch.where((owners < 0)[:, None], user_vectors[users], vectors[owners.clamp_min(0)])
