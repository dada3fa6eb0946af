"""A mixture of adapters baked into one, for engines that answer a request by one adapter.

    sum_k g_k s_k B_k A_k  =  [g_1 s_1 B_1 ... g_n s_n B_n] [A_1; ...; A_n]

so the A's stand one below the other and the B's side by side, and the rank is the sum of ranks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def mixed(adapters: Sequence[Mapping[str, Tensor]], weights: Sequence[float]) -> dict[str, Tensor]:
    """PEFT-named tensors of one adapter of scale 1 (alpha = rank) that does what these adapters do together.

    weights: of each adapter its gate times its own scale. All adapters have the same layers.
    """
    return {name: _joined(name, [adapter[name] for adapter in adapters], weights) for name in adapters[0]}


def _joined(name: str, tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    if ".lora_A." in name:
        return torch.cat(list(tensors), dim=0)
    return torch.cat([tensor * weight for tensor, weight in zip(tensors, weights, strict=True)], dim=1)
