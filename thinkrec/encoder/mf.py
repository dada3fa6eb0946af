"""Matrix factorisation with biases, the encoder that needs nothing but train rows."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from thinkrec.config.model import EncoderSection
from thinkrec.encoder.factors import INIT_STD, Factors, Ratings
from thinkrec.encoder.fit_factors import fit_pairs


def train(
    rows: Ratings, valid: Ratings, num_users: int, num_items: int, settings: EncoderSection, seed: int, device: str = "cpu"
) -> Factors:
    """Fit one free vector a user and item; one step costs the batch and not the catalogue. Bit for bit repeatable on CPU.

    Raises DataError without train rows, NonFiniteLoss when the fit runs away.
    """
    generator = torch.Generator().manual_seed(seed)
    users, items = (_table(num, settings.dim, generator).to(device) for num in (num_users, num_items))

    def look_up(user: Tensor, item: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        p, q = users(user), items(item)
        return p, q, p.square().sum(1) + q.square().sum(1)

    optimizer = torch.optim.SparseAdam([users.weight, items.weight], lr=settings.lr)
    return fit_pairs(rows, valid, settings, generator, optimizer, look_up, lambda: (users.weight, items.weight))


def _table(num: int, dim: int, generator: torch.Generator) -> nn.Embedding:
    weight = torch.randn(num, dim + 1, generator=generator) * INIT_STD
    weight[:, -1] = 0.0
    return nn.Embedding(num, dim + 1, _weight=weight, sparse=True)
