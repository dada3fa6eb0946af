"""The projector: an encoder vector becomes one input embedding of the language model (docs/method.md 6: d -> 10 d -> hidden, ReLU)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Projector(nn.Module):
    """Maps (n, d) float32 encoder vectors to (n, hidden) in the dtype of its weights; a missing vector is a row of zeros and becomes the
    learned bias, "unknown"."""

    def __init__(self, dim: int, hidden_size: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))
        self.expand = nn.Linear(dim, 10 * dim)
        self.contract = nn.Linear(10 * dim, hidden_size)

    def standardise(self, vectors: Tensor) -> None:
        """Remember the spread of the encoder's vectors, so that learning does not depend on their units."""
        self.mean.copy_(vectors.mean(0))
        self.scale.copy_(vectors.std(0).clamp_min(1e-6))

    def forward(self, vectors: Tensor) -> Tensor:
        known = (vectors != 0).any(-1, keepdim=True)
        standard = (vectors - self.mean) / self.scale * known
        result: Tensor = self.contract(torch.relu(self.expand(standard.to(self.expand.weight.dtype))))
        return result
