"""The one device that is checked, and how time is taken on it."""

from __future__ import annotations

import gc
import platform
import statistics
import time
from collections.abc import Callable

import torch

NUM_WARM, NUM_ROUNDS = 2, 10


def kind() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def title() -> str:
    """What the figures are of."""
    return torch.cuda.get_device_name() if kind() == "cuda" else f"CPU {platform.machine()}"


def synchronise() -> None:
    if kind() == "cuda":
        torch.cuda.synchronize()


def release() -> None:
    """Give back what the last part left, so that the peak of the next one is its own."""
    gc.collect()
    if kind() == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def seconds(arm: Callable[[], object], budget_s: float) -> float:
    """Median time of `arm`, warmed up, over NUM_ROUNDS or as many as the budget holds, but one at least."""
    took, end = list[float](), time.monotonic() + budget_s
    for number in range(NUM_WARM + NUM_ROUNDS):
        begun = time.perf_counter()
        arm()
        synchronise()
        took.append(time.perf_counter() - begun)
        if number >= NUM_WARM and time.monotonic() > end:
            break
    return statistics.median(took[NUM_WARM:])
