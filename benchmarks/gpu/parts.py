"""The parts of the check in their order: ZeRO-3, which cuts the base up, and FAISS, which brings its own CUDA, come last."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from gpu import ceilings, correctness, neighbours, serving, speed
from gpu.bench import Bench
from gpu.sizes import NUM_PACKED


@dataclass(frozen=True)
class Part:
    name: str
    run: Callable[[], dict[str, Any]]


def parts(bench: Bench) -> Iterator[Part]:
    yield Part("ceilings", partial(ceilings.measure, bench))
    comparison = correctness.Comparison(bench)
    for ds_config in ("zero1", "zero3"):
        yield Part(f"correctness {ds_config}", partial(comparison.under, ds_config))
    for arm in bench.sizes.arms:
        yield Part(f"plain torch {arm}", partial(speed.floor, bench, arm))
    yield Part("fused scoring", partial(serving.fused, bench))
    packed = bench.sizes.packed
    yield Part(f"packed zero1 {packed}", partial(speed.trained, bench, packed, "zero1", NUM_PACKED))
    for ds_config in ("zero1", "zero3"):
        for arm in bench.sizes.arms:
            yield Part(f"trainer {ds_config} {arm}", partial(speed.trained, bench, arm, ds_config))
    yield Part("faiss", partial(neighbours.measure, bench))
