"""AdamW over tensors that hold several experts: every slot has its own rate, step count, clipping and end.

DeepSpeed hands an optimizer one flat tensor, this rank's part of all trained parameters; which slot each of its numbers belongs to lies
beside the moments (`slot`), dealt there in the same way. So a slot moves exactly as it would alone, whoever its neighbours are.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from thinkrec.errors import NonFiniteLoss

BETAS = (0.9, 0.999)
EPS = 1e-8


class SlotAdamW(torch.optim.Optimizer):
    """AdamW with `rates` and `steps` for each of `num_slots` slots; a slot whose rate is 0 rests, its moments included.

    `clip` bounds each slot's own gradient norm over all ranks (0: no bound). Raises NonFiniteLoss, on every rank and before anything has
    moved, if the gradient of a slot is NaN or infinite.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], num_slots: int = 1, weight_decay: float = 0.0, clip: float = 0.0) -> None:
        super().__init__(parameters, {"lr": 0.0, "weight_decay": weight_decay})
        self.clip = clip
        self.rates = [0.0] * num_slots
        self.steps = [0] * num_slots

    def fresh_state(self, flat: Tensor) -> dict[str, Tensor]:
        """Moments of zero and, if there are several slots, every number in slot 0."""
        moments = {name: torch.zeros_like(flat) for name in ("exp_avg", "exp_avg_sq")}
        return moments | ({"slot": torch.zeros_like(flat, dtype=torch.int32)} if len(self.rates) > 1 else {})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """Move every slot whose rate is not 0 by one step."""
        flats = [flat for group in self.param_groups for flat in group["params"] if flat.grad is not None]
        if not flats:
            return
        shrink = self._shrink(self._norms(flats))
        self.steps = [step + (rate > 0) for step, rate in zip(self.steps, self.rates, strict=True)]
        for flat in flats:
            self._move(flat, shrink)

    def _norms(self, flats: list[Tensor]) -> Tensor:
        """Each slot's gradient norm, (num_slots,) float64, the same on all ranks; ZeRO's parts do not overlap."""
        squares = torch.stack([self._sums(flat, flat.grad.double().square()) for flat in flats if flat.grad is not None]).sum(0)
        if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
            squares = squares.cuda() if torch.distributed.get_backend() == "nccl" else squares
            torch.distributed.all_reduce(squares)
        norms = squares.sqrt().cpu()
        if not bool(norms.isfinite().all()):
            raise NonFiniteLoss(
                f"the gradient of slot {(~norms.isfinite()).nonzero().flatten().tolist()} is NaN or infinite",
                "optimizer step",
                "lower the lr or set gradient_clipping",
            )
        return norms

    def _sums(self, flat: Tensor, values: Tensor) -> Tensor:
        if len(self.rates) == 1:
            return values.sum()[None]
        return torch.bincount(self.state[flat]["slot"], values, minlength=len(self.rates))

    def _shrink(self, norms: Tensor) -> list[float]:
        if not self.clip:
            return [1.0] * len(self.rates)
        return (self.clip / (norms + 1e-6)).clamp(max=1.0).tolist()  # DeepSpeed's own formula

    def _move(self, flat: Tensor, shrink: list[float]) -> None:
        assert flat.grad is not None
        state, decay = self.state[flat], self.param_groups[0]["weight_decay"]

        def spread(values: Iterable[float]) -> Tensor:
            """One value a slot, as one a number."""
            table = torch.tensor(list(values), dtype=flat.dtype, device=flat.device)
            return table[state["slot"]] if len(self.rates) > 1 else table

        timed = list(zip(self.rates, (max(step, 1) for step in self.steps), strict=True))
        gradient = flat.grad * spread(shrink)
        for moment, value, beta in (("exp_avg", gradient, BETAS[0]), ("exp_avg_sq", gradient.square(), BETAS[1])):
            state[moment].lerp_(value, spread((1 - beta) * (rate > 0) for rate, _ in timed))
        root = state["exp_avg_sq"].sqrt().div_(spread((1 - BETAS[1] ** step) ** 0.5 for _, step in timed)).add_(EPS)
        flat.mul_(spread(1 - rate * decay for rate, _ in timed))
        flat.sub_(state["exp_avg"].div(root).mul_(spread(rate / (1 - BETAS[0] ** step) for rate, step in timed)))
