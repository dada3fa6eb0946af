"""Matrix factorisation with biases, the encoder that needs nothing but train rows.

    logit P(like | u, i) = mean + b_u + b_i + <p_u, q_i>

A user's or item's vector is [p, b]: the latent numbers, then the bias, so it is one wider than `dim`. The biases carry most of what there
is to know (method.md 14: they lift the test AUC of plain MF on MovieLens from .64 to .71), and a row of zeros is the honest vector of
somebody never seen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional as F

from thinkrec.config import EncoderSection
from thinkrec.errors import DataError, NonFiniteLoss

INIT_STD = 0.1
Matrix = TypeVar("Matrix", Tensor, NDArray[Any])


@dataclass(frozen=True)
class Ratings:
    """Rows as dense integers; -1 is a user or item that train does not know."""

    user: NDArray[np.int64]
    item: NDArray[np.int64]
    label: NDArray[np.float32]  # 0 or 1


@dataclass(frozen=True)
class Factors:
    """What was learned: users (num_users, dim + 1), items (num_items, dim + 1), float32."""

    users: NDArray[np.float32]
    items: NDArray[np.float32]
    mean: float  # log-odds of a like in train
    num_epochs: int  # the epoch these numbers come from
    valid_auc: float | None  # None when valid rows do not hold both labels


def score(user_vectors: Matrix, item_vectors: Matrix, mean: float) -> Matrix:
    """Logits (n,) of the pairs (user_vectors[j], item_vectors[j]), each (n, dim + 1)."""
    logits: Matrix = (user_vectors[:, :-1] * item_vectors[:, :-1]).sum(1) + user_vectors[:, -1] + item_vectors[:, -1] + mean
    return logits


def train(
    rows: Ratings, valid: Ratings, num_users: int, num_items: int, settings: EncoderSection, seed: int, device: str = "cpu"
) -> Factors:
    """Fit `rows` and keep the epoch that ranks `valid` best (test rows are never seen: D21); without usable valid rows, the last epoch.

    Bit for bit repeatable on CPU. `weight_decay` is an L2 penalty on the rows a batch touches, so one step costs the batch and not the
    catalogue. Raises DataError without train rows, NonFiniteLoss when the fit runs away.
    """
    if not len(rows.label):
        raise DataError("there are no train rows to fit", "ingest: interactions", "move split.valid_from or split.valid_quantile later")
    generator = torch.Generator().manual_seed(seed)
    users, items = (_table(num, settings.dim, generator).to(device) for num in (num_users, num_items))
    optimizer = torch.optim.SparseAdam([users.weight, items.weight], lr=settings.lr)
    user, item, label = (torch.tensor(column, device=device) for column in (rows.user, rows.item, rows.label))
    mean = _log_odds(rows.label)
    best: Factors | None = None
    for epoch in range(1, settings.num_epochs + 1):
        total = 0.0
        order = torch.randperm(len(label), generator=generator).to(device)
        for batch in torch.split(order, settings.batch_size):
            p, q = users(user[batch]), items(item[batch])
            penalty = settings.weight_decay * (p.square().sum(1) + q.square().sum(1)).mean()
            loss = F.binary_cross_entropy_with_logits(score(p, q, mean), label[batch]) + penalty
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        if not np.isfinite(total):
            raise NonFiniteLoss(f"matrix factorisation diverged in epoch {epoch}", "encoder", "lower encoder.lr")
        now = Factors(_numbers(users), _numbers(items), mean, epoch, None)
        now = replace(now, valid_auc=auc(now, valid))
        if best is None or best.valid_auc is None or now.valid_auc is None or now.valid_auc > best.valid_auc:
            best = Factors(now.users.copy(), now.items.copy(), mean, epoch, now.valid_auc)
    assert best is not None  # num_epochs >= 1
    return best


def predict(factors: Factors, rows: Ratings) -> NDArray[np.float32]:
    """Logits (n,) of rows; an unknown user or item counts as a row of zeros."""
    return score(_gather(factors.users, rows.user), _gather(factors.items, rows.item), factors.mean)


def auc(factors: Factors, rows: Ratings) -> float | None:
    """AUC of `predict`, or None unless both labels occur."""
    if len(np.unique(rows.label)) < 2:
        return None
    return float(roc_auc_score(rows.label, predict(factors, rows)))


def _table(num: int, dim: int, generator: torch.Generator) -> nn.Embedding:
    weight = torch.randn(num, dim + 1, generator=generator) * INIT_STD
    weight[:, -1] = 0.0
    return nn.Embedding(num, dim + 1, _weight=weight, sparse=True)


def _numbers(table: nn.Embedding) -> NDArray[np.float32]:
    numbers: NDArray[np.float32] = table.weight.detach().cpu().numpy()
    return numbers


def _gather(table: NDArray[np.float32], index: NDArray[np.int64]) -> NDArray[np.float32]:
    return np.where((index >= 0)[:, None], table[index], np.float32(0))


def _log_odds(label: NDArray[np.float32]) -> float:
    likes = float(label.sum(dtype=np.float64))
    return float(np.log((likes + 0.5) / (len(label) - likes + 0.5)))  # half a row each way: finite even if every label is the same
