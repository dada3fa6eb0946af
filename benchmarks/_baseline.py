"""The figures of a benchmark: printed, and kept in baselines/ where --store asks for it. Not a benchmark itself."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

SMALL_RUN: Mapping[str, Any] = {
    "data": {"world": {"num_users": 150}},
    "cluster": {"num_clusters": 3},
    "keywords": {"source": "categories"},
    "traces": {"enabled": False},
    "base": {"nano": {"num_epochs": 1}},
    "prompt": {"history_length": 30},
    "train": {"global_adapter": {"max_steps": 10}, "experts": {"batch_size": 32, "max_steps": 10}},
    "evaluate": {"num_explanations": 1},
}  # a planted world and a nano base whose adapters hardly learn: what is measured is speed


def path_of(benchmark: str) -> Path:
    """Where the figures of the benchmark whose `__file__` this is are kept."""
    return Path(benchmark).parent / "baselines" / f"{Path(benchmark).stem}.json"


def show(benchmark: str, found: dict[str, Any], store: bool = "--store" in sys.argv[1:]) -> None:
    """Print the figures, and keep them if this process was asked to."""
    text = json.dumps(found, indent=1)
    print(text)
    if store:
        path_of(benchmark).write_text(text + "\n", encoding="utf-8")


def best_seconds(arms: Mapping[str, Callable[[], object]], num_rounds: int) -> dict[str, float]:
    """The best process time of each arm, which take turns."""
    best = dict.fromkeys(arms, math.inf)
    for _ in range(num_rounds):
        for name, arm in arms.items():
            begun = time.process_time()
            arm()
            best[name] = min(best[name], time.process_time() - begun)
    return best
