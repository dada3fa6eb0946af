"""The recommender: a frozen language model, an adapter bank, optionally a projector, and the two outputs that are needed.

Only what is needed meets the vocabulary (docs/design.md 5): the verdict takes two rows of the head at one position of each row, the text
loss takes the answer tokens alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thinkrec.errors import ModelError
from thinkrec.model import prefix_tree
from thinkrec.model.adapter_bank import AdapterBank, Fusion
from thinkrec.model.base import CausalLM
from thinkrec.model.batch import Batch
from thinkrec.model.loss import row_losses
from thinkrec.model.projector import Projector

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


class Vocabulary(nn.Module):
    """The output head; it owns the weight, so that ZeRO-3 gathers it around `forward` also when only a few rows are read.

    A few rows give float32 logits: in bfloat16 two numbers near 18 are .125 apart, and scores that are their differences tie.
    """

    def __init__(self, head: nn.Linear) -> None:
        super().__init__()
        self.weight = head.weight

    def forward(self, hidden: Tensor, rows: Tensor | None = None) -> Tensor:
        return F.linear(hidden, self.weight) if rows is None else F.linear(hidden.float(), self.weight[rows].float())


def cap(logits: Tensor, config: PreTrainedConfig) -> Tensor:
    """What the class of the base does to logits after its head: Gemma 2 bounds them by c tanh(logits / c)."""
    limit = getattr(config, "final_logit_softcapping", None)
    return torch.tanh(logits / limit) * limit if limit else logits


class Recommender(nn.Module):
    """Scores and loss of a batch. `verdict_ids` are the token ids of No and Yes."""

    def __init__(
        self,
        llm: CausalLM,
        bank: AdapterBank,
        verdict_ids: tuple[int, int],
        score: Literal["yes", "yes_no"] = "yes_no",
        projector: Projector | None = None,
    ) -> None:
        super().__init__()
        self.llm = llm
        if not isinstance(llm.lm_head, Vocabulary):
            assert isinstance(llm.lm_head, nn.Linear)  # model/check.py refuses other heads
            llm.lm_head = Vocabulary(llm.lm_head)
        prefix_tree.install(llm)
        self.bank = bank
        self.projector = projector
        self.score_kind = score
        self.verdict_ids: Tensor
        self.register_buffer("verdict_ids", torch.tensor(verdict_ids), persistent=False)

    @property
    def device(self) -> torch.device:
        return self.verdict_ids.device

    def embed(self, batch: Batch) -> Tensor:
        """Input embeddings (B, T, hidden) with projected vectors in the soft slots."""
        if self.projector is None:
            embedded: Tensor = self.llm.get_input_embeddings()(batch.input_ids)
            return embedded
        if len(batch.slot_at) != len(batch.slot_vectors):
            raise ModelError(f"{len(batch.slot_at)} soft slots for {len(batch.slot_vectors)} vectors", "batch", "one vector a slot (D23)")
        # The slot token may lie outside the base's own table: its row is overwritten, so any valid id stands in for it.
        ids = batch.input_ids.flatten().index_fill(0, batch.slot_at, 0)
        embedded = self.llm.get_input_embeddings()(ids)
        filled = embedded.index_put((batch.slot_at,), self.projector(batch.slot_vectors).to(embedded.dtype))
        return filled.view(*batch.input_ids.shape, -1)

    def hidden(self, batch: Batch, fusion: Fusion = "exact") -> Tensor:
        """Last hidden states (B, T, hidden)."""
        with self.bank.gated(self._gates(batch), fusion):
            return self._pass(batch)

    def logits(self, batch: Batch, adapted: bool = True) -> Tensor:
        """Logits of the whole vocabulary at every place, (B, T, vocabulary), by the rows' adapters or by the base alone."""
        with self.bank.gated(self._gates(batch) if adapted else None):
            result: Tensor = self.llm.lm_head(self._pass(batch))
        return result

    def _gates(self, batch: Batch) -> Tensor | None:
        """Of each line of the batch, or where a line holds many rows of each of its tokens."""
        if batch.tree is None or batch.gates is None:
            return batch.gates
        mixtures = batch.gates if batch.gates.dim() == 2 else F.one_hot(batch.gates, self.bank.num_adapters).float()
        return mixtures[batch.tree.row[batch.tree.at]][None]

    def _pass(self, batch: Batch) -> Tensor:
        """Lines of one row are padded on the right, so causal attention needs no mask."""
        embedded, tree = self.embed(batch), batch.tree
        if tree is None:
            result: Tensor = self.llm.model(inputs_embeds=embedded, use_cache=False).last_hidden_state
            return result
        arguments = prefix_tree.tree_arguments(tree)
        return tree.placed(self.llm.model(inputs_embeds=embedded[:, tree.at], use_cache=False, **arguments).last_hidden_state)

    def scores(self, hidden: Tensor, batch: Batch) -> Tensor:
        """The ranking score of each row, (R,) float32."""
        logits = cap(self.llm.lm_head(hidden.flatten(0, 1)[batch.verdict_at], self.verdict_ids), self.llm.config)
        score: Tensor = logits[:, 1] if self.score_kind == "yes" else logits[:, 1] - logits[:, 0]
        return score

    def forward(self, batch: Batch, rank: float = 0.0, rows_per_user: int = 1) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted sum of the rows' losses (the mean unless `batch.weight` says otherwise), and its parts for the log.

        Parts are weighted sums too, (E,) with one adapter a row, else (1,).
        """
        hidden = self.hidden(batch)
        score = self.scores(hidden, batch)
        token_losses = None
        if len(batch.answer_ids):
            logits = cap(self.llm.lm_head(hidden.flatten(0, 1)[batch.answer_at]).float(), self.llm.config)
            token_losses = F.cross_entropy(logits, batch.answer_ids, reduction="none")
        per_row, parts = row_losses(score, batch, token_losses, rank, rows_per_user)
        slots = batch.gates if batch.gates.dim() == 1 else torch.zeros_like(batch.user)
        empty = score.new_zeros(self.bank.num_adapters if batch.gates.dim() == 1 else 1)
        sums = {name: empty.index_add(0, slots, batch.weight * part.detach()) for name, part in {"loss": per_row, **parts}.items()}
        return (batch.weight * per_row).sum(), sums
