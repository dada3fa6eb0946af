"""Frozen linear layers under ZeRO-3: they keep neither their input nor the gathered weight until the backward pass.

PyTorch's own linear keeps a transposed view of the weight, by which a weight that ZeRO-3 has given back stays in memory after all;
DeepSpeed's `memory_efficient_linear` keeps the weight by name, but also the input, which only a trained weight needs: a quarter more of all
that autograd keeps.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction, FunctionCtx


class FrozenLinear(torch.autograd.Function):
    """x W^T + b, for W and b that are not trained."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: nn.Parameter, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)  # the parameter itself: it is full again by then, see ZeRO-3's hooks
        return x.matmul(weight.t()) if bias is None else x.matmul(weight.t()).add_(bias)

    @staticmethod
    def backward(ctx: BackwardCFunction, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0].matmul(*ctx.saved_tensors), None, None


def keep_no_inputs(module: nn.Module) -> None:
    """Let every frozen linear layer of `module` compute by FrozenLinear; call it when what is trained has been marked."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear) and not layer.weight.requires_grad:
            layer.forward = partial(_forward, layer)  # type: ignore[method-assign]


def _forward(layer: nn.Linear, x: Tensor) -> Tensor:
    result: Tensor = FrozenLinear.apply(x, layer.weight, layer.bias)  # type: ignore[no-untyped-call]
    return result
