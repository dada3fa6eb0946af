"""Training by plain torch: what the harness is compared with, in speed on the device and in float32 on the CPU."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from thinkrec.train.deepspeed.slot_adamw import BETAS, EPS


class FlatAdamW:
    """torch's AdamW over one flat float32 copy of the trained parameters, whatever their dtype; `clip` bounds the norm, 0: no bound."""

    def __init__(self, module: nn.Module, parameters: Iterable[nn.Parameter], clip: float = 0.0) -> None:
        self.parameters, self.clip = list(parameters), clip
        module.requires_grad_(False)
        for parameter in self.parameters:
            parameter.requires_grad_(True)
        self.flat = nn.Parameter(torch.cat([parameter.detach().float().flatten() for parameter in self.parameters]))
        self.optimizer = torch.optim.AdamW([self.flat], lr=0.0, betas=BETAS, eps=EPS, weight_decay=0.0)

    def step(self, lr: float) -> None:
        """Move by the gradients that the parameters hold, and drop these."""
        self.flat.grad = torch.cat([_gradient(parameter).float().flatten() for parameter in self.parameters])
        if self.clip:
            nn.utils.clip_grad_norm_([self.flat], self.clip)
        self.optimizer.param_groups[0]["lr"] = lr
        self.optimizer.step()
        parts = self.flat.detach().split([parameter.numel() for parameter in self.parameters])
        for parameter, moved in zip(self.parameters, parts, strict=True):
            parameter.data.copy_(moved.view_as(parameter))
            parameter.grad = None


def _gradient(parameter: nn.Parameter) -> torch.Tensor:
    assert parameter.grad is not None, "a trained parameter took no part in the loss"
    return parameter.grad
