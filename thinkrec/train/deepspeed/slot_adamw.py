"""AdamW over tensors that hold several experts: every slot has its own rate, step count, clipping and end.

DeepSpeed hands an optimizer one flat tensor, this rank's part of all trained parameters. Which slot each of its numbers belongs to lies
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
ANCHOR = "anchor"


class SlotAdamW(torch.optim.Optimizer):
    """AdamW with `rates` and `steps` for each of `num_slots` slots; a slot whose rate is 0 rests, its moments included.

    `clip` bounds each slot's own gradient norm over all ranks (0: no bound). `proximal` pulls the weights w to those that lie beside the
    moments as `anchor`, by rate * proximal * (w - anchor) a step: decoupled, as the decay is. Raises NonFiniteLoss, on every rank and
    before anything has moved, if the gradient of a slot is NaN or infinite.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], num_slots: int = 1, weight_decay: float = 0.0, clip: float = 0.0, proximal: float = 0.0
    ) -> None:
        super().__init__(parameters, {"lr": 0.0, "weight_decay": weight_decay})
        self.clip, self.proximal = clip, proximal
        self.rates = [0.0] * num_slots
        self.steps = [0] * num_slots

    def fresh_state(self, flat: Tensor) -> dict[str, Tensor]:
        """Moments of zero, an anchor where weights are pulled to one and, if there are several slots, every number in slot 0."""
        moments = {name: torch.zeros_like(flat) for name in ("exp_avg", "exp_avg_sq", *[ANCHOR] * (self.proximal > 0))}
        return moments | ({"slot": torch.zeros_like(flat, dtype=torch.int32)} if len(self.rates) > 1 else {})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Move every slot whose rate is not 0 by one step."""
        [flat] = self.param_groups[0]["params"]
        gradient = flat.grad * self._spread(flat, self._shrink(self._norms(flat)))
        self.steps = [step + (rate > 0) for step, rate in zip(self.steps, self.rates, strict=True)]
        self._move(flat, gradient)

    def _norms(self, flat: Tensor) -> Tensor:
        """Each slot's gradient norm, (num_slots,) float64, the same on all ranks; ZeRO's parts do not overlap."""
        assert flat.grad is not None
        squares = flat.grad.double().square()
        squares = torch.bincount(self.state[flat]["slot"], squares, len(self.rates)) if len(self.rates) > 1 else squares.sum()[None]
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

    def _shrink(self, norms: Tensor) -> list[float]:
        if not self.clip:
            return [1.0] * len(self.rates)
        return (self.clip / (norms + 1e-6)).clamp(max=1.0).tolist()  # DeepSpeed's own formula

    def _spread(self, flat: Tensor, values: Iterable[float]) -> Tensor:
        """One value a slot, as one a number."""
        table = torch.tensor(list(values), dtype=flat.dtype, device=flat.device)
        return table[self.state[flat]["slot"]] if len(self.rates) > 1 else table

    def _move(self, flat: Tensor, gradient: Tensor) -> None:
        state, decay = self.state[flat], self.param_groups[0]["weight_decay"]
        timed = list(zip(self.rates, (max(step, 1) for step in self.steps), strict=True))
        for moment, value, beta in (("exp_avg", gradient, BETAS[0]), ("exp_avg_sq", gradient.square(), BETAS[1])):
            state[moment].lerp_(value, self._spread(flat, [(1 - beta) * (rate > 0) for rate, _ in timed]))
        root = state["exp_avg_sq"].sqrt().div_(self._spread(flat, [(1 - BETAS[1] ** step) ** 0.5 for _, step in timed])).add_(EPS)
        if self.proximal:
            flat.lerp_(state[ANCHOR], self._spread(flat, [rate * self.proximal for rate, _ in timed]))
        flat.mul_(self._spread(flat, [1 - rate * decay for rate, _ in timed]))
        flat.sub_(state["exp_avg"].div(root).mul_(self._spread(flat, [rate / (1 - BETAS[0] ** step) for rate, step in timed])))
