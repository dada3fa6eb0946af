"""The one training loop: everything that learns by gradient on the language model goes through `run`."""

from __future__ import annotations

import json
import math
import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from thinkrec.errors import NonFiniteLoss
from thinkrec.train import zero
from thinkrec.train.checkpoint import Checkpoints

# feed(step, micro) -> the arguments of engine(...) for this rank's micro batch; a pure function, so a resumed run sees the same rows.
Feed = Callable[[int, int], tuple[Any, ...]]


@dataclass(frozen=True)
class Phase:
    """The numbers of one training run; `lr_at` is linear warm-up, then cosine down to min_lr (method.md 8)."""

    name: str
    num_steps: int
    lr: float
    min_lr: float = 0.0
    warmup_steps: int = 0
    accumulation: int = 1
    seed: int = 0
    checkpoint_every: int = 10**9

    def lr_at(self, step: int) -> float:
        if step < self.warmup_steps:
            return self.lr * (step + 1) / self.warmup_steps
        progress = (step - self.warmup_steps) / max(1, self.num_steps - self.warmup_steps)
        return self.min_lr + (self.lr - self.min_lr) / 2 * (1 + math.cos(math.pi * progress))


def run(
    engine: Any,
    feed: Feed,
    phase: Phase,
    start: Mapping[str, tuple[Tensor, Tensor, Tensor]],
    checkpoints: Checkpoints,
    log: Path | None,
    on_step: Callable[[int, Mapping[str, float]], None] = lambda step, figures: None,
) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """Train from the newest checkpoint, else from `start`; returns the final state (see zero.gather_state) on every rank.

    `log` (rank 0 alone passes one) gets a JSON line per step. Raises NonFiniteLoss before the optimizer moves.
    """
    rank = torch.distributed.get_rank()
    found = checkpoints.latest()
    first, state = found if found else (0, dict(start))
    zero.deal_state(engine, state, first)
    engine.train()
    begun = time.monotonic()
    for step in range(first, phase.num_steps):
        torch.manual_seed(phase.seed * 1_000_003 + step * 1_009 + rank)  # dropout, too, is a function of the step
        lr = phase.lr_at(step)
        for group in engine.optimizer.param_groups:
            group["lr"] = lr
        figures = _step(engine, feed, phase, step)
        figures |= {"lr": lr, "elapsed_s": round(time.monotonic() - begun, 3), "peak_bytes": peak_bytes()}
        if log is not None:
            with log.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps({"phase": phase.name, "step": step, **figures}) + "\n")
        on_step(step, figures)
        if (step + 1) % phase.checkpoint_every == 0 and step + 1 < phase.num_steps:
            state = zero.gather_state(engine)
            if rank == 0:
                checkpoints.save(step + 1, state)
    return zero.gather_state(engine)


def _step(engine: Any, feed: Feed, phase: Phase, step: int) -> dict[str, float]:
    sums: dict[str, float] = {}
    for micro in range(phase.accumulation):
        loss, parts = engine(*feed(step, micro))
        for name, value in _agreed({"loss": loss, **parts}, phase, step).items():
            sums[name] = sums.get(name, 0.0) + value / phase.accumulation
        engine.backward(loss)
        engine.step()
    return sums


def _agreed(values: Mapping[str, Tensor], phase: Phase, step: int) -> dict[str, float]:
    """Means over all ranks. A NaN on one rank reaches all of them, so they stop together instead of hanging in the next collective."""
    means = torch.stack([value.detach().float().reshape(()) for value in values.values()])
    if torch.distributed.get_world_size() > 1:
        torch.distributed.all_reduce(means)
        means /= torch.distributed.get_world_size()
    if not bool(means.isfinite().all()):
        raise NonFiniteLoss(
            f"the loss of step {step} is not finite: {means.tolist()}", phase.name, "lower its lr, or look at the rows of that step"
        )
    return dict(zip(values, means.tolist(), strict=True))


def peak_bytes() -> int:
    """The most memory this process has held so far: allocated on its GPU, or resident where there is none."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB


def fresh(parameters: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """A start state: these weights, zero moments."""
    return {
        name: (weight.float(), torch.zeros_like(weight).float(), torch.zeros_like(weight).float()) for name, weight in parameters.items()
    }
