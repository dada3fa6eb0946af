"""What the device gives at best: a large matrix product in bfloat16, and a copy in its own memory."""

from __future__ import annotations

from typing import Any

import torch

from gpu import device
from gpu.bench import Bench


def measure(bench: Bench) -> dict[str, Any]:
    sizes = bench.sizes
    left, right = torch.randn(2, sizes.matmul, sizes.matmul, device=device.kind(), dtype=torch.bfloat16)
    multiplied_s = device.seconds(lambda: left @ right, sizes.budget_s)
    source = torch.ones(sizes.copy_bytes, dtype=torch.uint8, device=device.kind())
    target = torch.empty_like(source)
    copied_s = device.seconds(lambda: target.copy_(source), sizes.budget_s)
    return {
        "matmul_tflops": round(2 * sizes.matmul**3 / multiplied_s / 1e12, 2),
        "copy_gbytes_per_s": round(2 * sizes.copy_bytes / copied_s / 1e9, 1),  # read and written
    }
