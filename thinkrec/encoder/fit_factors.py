"""Fitting vectors to rated pairs: what matrix factorisation and LightGCN share. They differ in where a row's vectors come from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from thinkrec.config.model import EncoderSection
from thinkrec.encoder.best_epoch import best_epoch
from thinkrec.encoder.factors import Factors, Ratings, auc, log_odds, predict, score

# (user, item) of a batch -> their vectors (n, dim + 1) and the squares that weight_decay shrinks (n,)
LookUp = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]


def fit_pairs(
    rows: Ratings,
    valid: Ratings,
    settings: EncoderSection,
    generator: torch.Generator,
    optimizer: torch.optim.Optimizer,
    look_up: LookUp,
    tables: Callable[[], tuple[Tensor, Tensor]],
) -> Factors:
    """Binary cross-entropy over `rows`; keeps the epoch whose `tables()` (users, items) rank `valid` best.

    `weight_decay` is an L2 penalty on what a batch touches. Raises DataError without train rows, NonFiniteLoss when the fit runs away.
    """
    mean, device = log_odds(rows.label), optimizer.param_groups[0]["params"][0].device
    user, item, label = (torch.tensor(column, device=device) for column in (rows.user, rows.item, rows.label))

    def batches() -> tuple[Tensor, ...]:
        return torch.split(torch.randperm(len(label), generator=generator).to(device), settings.batch_size)

    def loss(batch: Tensor) -> Tensor:
        p, q, squares = look_up(user[batch], item[batch])
        return F.binary_cross_entropy_with_logits(score(p, q, mean), label[batch]) + settings.weight_decay * squares.mean()

    def look(epoch: int) -> Factors:
        users, items = (_numbers(table) for table in tables())
        return Factors(users, items, mean, epoch, auc(valid.label, predict(users, items, mean, valid)))

    return best_epoch(settings, optimizer, batches, loss, look)


def _numbers(table: Tensor) -> NDArray[np.float32]:
    numbers: NDArray[np.float32] = table.detach().cpu().numpy().copy()
    return numbers
