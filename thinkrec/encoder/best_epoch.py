"""The epochs every encoder is trained by: descend, look at valid rows, keep the best. Test rows choose nothing (D21)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from thinkrec.config.model import EncoderSection
from thinkrec.errors import NonFiniteLoss


class Looked(Protocol):
    """What an encoder is after some epoch."""

    @property
    def valid_auc(self) -> float | None: ...


Batch = TypeVar("Batch")
Found = TypeVar("Found", bound=Looked)


def best_epoch(
    settings: EncoderSection,
    optimizer: torch.optim.Optimizer,
    batches: Callable[[], Iterable[Batch]],
    loss: Callable[[Batch], Tensor],
    look: Callable[[int], Found],
) -> Found:
    """What `look(epoch)` saw at the epoch with the highest valid AUC; without usable valid rows, at the last one.

    `batches()` deals one epoch. Raises NonFiniteLoss when the fit runs away.
    """
    best: Found | None = None
    for epoch in range(1, settings.num_epochs + 1):
        total = 0.0
        for batch in batches():
            value = loss(batch)
            optimizer.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += float(value.detach())
        if not math.isfinite(total):
            raise NonFiniteLoss(f"the {settings.source} encoder diverged in epoch {epoch}", "encoder", "lower encoder.lr")
        now = look(epoch)
        if best is None or best.valid_auc is None or now.valid_auc is None or now.valid_auc > best.valid_auc:
            best = now
    assert best is not None  # num_epochs >= 1
    return best
