"""The losses of ThinkRec (docs/method.md 7), per row, with kind and weights as columns so that any rows can share a batch (D22).

    L_rec   = BCE(offset + score, label)             score = z_yes (the paper) or z_yes - z_no
    L_think = mean token cross-entropy over the answer text
    L       = w_rec L_rec + w_think L_think  [+ rank * L_rank]

The offset is what the counted prior says of the row, 0 without one: the model learns what counting misses. L_rank is a within-user pairwise
logistic term, on offset + score, over the rows of one user that stand together in a batch; it lifts UAUC and is 0 in the paper's profile.
`row_losses` sums them up.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from thinkrec.model.batch import Batch


def row_losses(
    score: Tensor, batch: Batch, token_losses: Tensor | None, rank: float, rows_per_user: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of each row, (R,), and its terms before they are weighted, (R,) each, by their names in the log.

    score (R,): the model's. token_losses (N,): cross-entropy of the batch's answer tokens, None for a batch without any.
    """
    total = batch.offset + score
    terms = {"rec": recommendation_loss(total, batch.label)}
    per_row = batch.w_rec * terms["rec"]
    if token_losses is not None:
        terms["think"] = thinking_loss(token_losses, batch.answer_rows, len(score))
        per_row = per_row + batch.w_think * terms["think"]
    if rank > 0:
        per_row = per_row + rank * ranking_loss(total, batch.label, batch.user, rows_per_user)
    return per_row, terms


def recommendation_loss(score: Tensor, label: Tensor) -> Tensor:
    """BCE with logits per row, (R,)."""
    return F.binary_cross_entropy_with_logits(score, label.to(score.dtype), reduction="none")


def thinking_loss(token_losses: Tensor, row_of_token: Tensor, num_rows: int) -> Tensor:
    """Mean cross-entropy of each row's answer tokens, (R,); a row without answer tokens gets 0."""
    total = torch.zeros(num_rows, dtype=token_losses.dtype, device=token_losses.device)
    count = torch.zeros_like(total)
    total = total.index_add(0, row_of_token, token_losses)
    count.index_add_(0, row_of_token, torch.ones_like(token_losses))
    return total / count.clamp_min(1)


def ranking_loss(score: Tensor, label: Tensor, user: Tensor, rows_per_user: int) -> Tensor:
    """Pairwise logistic loss inside each run of `rows_per_user` rows, as one number per row, (R,).

    Each run's mean over its (liked, disliked) pairs of one user is charged to its rows alike; a run without such a pair costs nothing. So
    the mean over a batch does not depend on how runs are dealt to workers.
    """
    scores, labels, users = (column.view(-1, rows_per_user) for column in (score, label, user))
    pair = ((labels[:, :, None] > labels[:, None, :]) & (users[:, :, None] == users[:, None, :])).to(score.dtype)
    losses = F.softplus(-(scores[:, :, None] - scores[:, None, :])) * pair
    run = losses.sum((1, 2)) / pair.sum((1, 2)).clamp_min(1)
    return run.repeat_interleave(rows_per_user)
