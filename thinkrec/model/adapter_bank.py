"""The adapter bank: E LoRA adapters over one frozen base, mixed per row by gates.

One formula trains and fuses (docs/design.md 5). For a row with gates g and adapters (A_k, B_k, s_k)

    y = base(x) + sum_k g_k s_k B_k A_k x  =  base(x) + (((x A^T) * repeat(g s, r)) B^T)     with the A's and B's stacked,

so training one adapter is E = 1 with gate 1, training a pack is one adapter a row (others get exactly zero gradient), and serving is
soft gates: the exact weighted sum, for a different mixture in every row of a batch. `peft_linear` keeps the arithmetic of the published
code, which sums the B's unweighted and so counts what experts share once per expert (D1); it is there for parity only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thinkrec.errors import ModelError

Fusion = Literal["exact", "peft_linear"]


@dataclass
class Gates:
    """The mixture of the batch in flight, shared by all bank layers of one model; `AdapterBank.gated` sets it."""

    rows: Tensor | None = None
    fusion: Fusion = "exact"


class BankLinear(nn.Module):
    """A frozen linear layer with E low-rank updates beside it: A (E, r, d_in), B (E, d_out, r), scales (E,).

    The updates are computed in the dtype of A and B and added in that of the base: one is trained or served in float32 over a base in
    bfloat16, and DeepSpeed casts the two or does not, by its stage.
    """

    def __init__(self, base: nn.Linear, num_adapters: int, rank: int, scale: float, dropout: float, gates: Gates) -> None:
        super().__init__()
        self.base = base
        self.gates = gates
        self.scale = scale
        self.dropout = nn.Dropout(dropout)
        self.lora_A = nn.Parameter(torch.empty(num_adapters, rank, base.in_features))
        self.lora_B = nn.Parameter(torch.zeros(num_adapters, base.out_features, rank))
        for adapter in self.lora_A.data:
            nn.init.kaiming_uniform_(adapter, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.base(x)
        gates = self.gates.rows
        if gates is None:
            return y
        if len(gates) != len(x):
            raise ModelError(
                f"gates for {len(gates)} rows meet a batch of {len(x)}",
                "adapter bank",
                "give `gated` one row of gates for each row of the batch",
            )
        x, gates = self.dropout(x).to(self.lora_A.dtype), gates.to(x.device)  # layers may lie on several devices: model/spread.py
        if gates.dim() == 1:
            return y + self._one_each(x, gates).to(y.dtype)
        num_adapters, rank, _ = self.lora_A.shape
        low = F.linear(x, self.lora_A.flatten(0, 1)).view(*x.shape[:-1], num_adapters, rank)
        weights = (gates.to(low.dtype) * self.scale).view(*gates.shape[:-1], *[1] * (x.dim() - gates.dim()), num_adapters, 1)
        if self.gates.fusion == "exact":
            low = low * weights
        else:
            low = (low * weights).sum(-2, keepdim=True) * (weights > 0)
        return y + F.linear(low.flatten(-2), self.lora_B.transpose(0, 1).flatten(1)).to(y.dtype)

    def _one_each(self, x: Tensor, slots: Tensor) -> Tensor:
        """s B A x with the one adapter of each row: the work of one adapter, however many there are."""
        if len(self.lora_A) == 1:
            return F.linear(F.linear(x, self.lora_A[0]) * self.scale, self.lora_B[0])
        return torch.bmm(torch.bmm(x, self.lora_A[slots].mT) * self.scale, self.lora_B[slots].mT)


class AdapterBank:
    """All adapters of one model: a view of its bank layers, by the dotted name of the linear layer each one wraps.

    The layers are modules of the model and of nothing else, so moving, casting and saving are the model's; here they are named and gated.
    """

    def __init__(self, layers: Mapping[str, BankLinear], gates: Gates) -> None:
        self.layers = dict(layers)
        self._gates = gates

    def __repr__(self) -> str:
        num_adapters, rank, _ = _full_shape(next(iter(self.layers.values())).lora_A)
        return f"AdapterBank({num_adapters} adapters of rank {rank} on {len(self.layers)} layers: {', '.join(self.layers)})"

    @property
    def num_adapters(self) -> int:
        return int(_full_shape(next(iter(self.layers.values())).lora_A)[0])

    @contextmanager
    def gated(self, rows: Tensor | None, fusion: Fusion = "exact") -> Iterator[None]:
        """Within the block, row i of a batch goes through the base and the mixture `rows[i]`; outside of any block, through the base alone.

        `rows` is (R, E) float, a mixture for each row, (R, T, E), one for each token of a row, or (R,) int64, the one adapter of each row:
        one-hot gates without their zeros. None is the base alone. Raises ModelError for a mixture of another number of adapters; a batch of
        another size raises it in its layers.
        """
        if rows is not None and rows.dim() > 1 and rows.shape[-1] != self.num_adapters:
            what = f"gates of {rows.shape[-1]} adapters for a bank of {self.num_adapters}"
            raise ModelError(what, "adapter bank", "give one column of gates for each adapter")
        before = self._gates.rows, self._gates.fusion
        self._gates.rows, self._gates.fusion = rows, fusion
        try:
            yield
        finally:
            self._gates.rows, self._gates.fusion = before

    def checkpointed(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """The `context_fn` of torch.utils.checkpoint: what is computed again in a backward pass has the gates of its forward pass.

        By then the block that set them is over.
        """
        return nullcontext(), self.gated(self._gates.rows, self._gates.fusion)

    def named_parameters(self, last_layers: int = 0) -> Iterator[tuple[str, nn.Parameter]]:
        """The trainable tensors as `<layer>.lora_A` (E, r, d_in) and `<layer>.lora_B` (E, d_out, r).

        All, or those of the last n transformer layers (the paper trains experts on the last 8).
        """
        depth = 1 + max(_layer_index(name) for name in self.layers)
        for name, layer in self.layers.items():
            if not last_layers or _layer_index(name) >= depth - last_layers:
                yield f"{name}.lora_A", layer.lora_A
                yield f"{name}.lora_B", layer.lora_B

    def parameters(self, last_layers: int = 0) -> Iterator[nn.Parameter]:
        """The tensors of `named_parameters`."""
        return (parameter for _, parameter in self.named_parameters(last_layers))

    def load(self, slot: int, tensors: Mapping[str, Tensor]) -> None:
        """Fill one slot from PEFT-named tensors; raises ModelError on a missing name or a wrong shape."""
        for name, layer in self.layers.items():
            for matrix, parameter in (("lora_A", layer.lora_A), ("lora_B", layer.lora_B)):
                key = peft_key(name, matrix)
                tensor = tensors.get(key)
                if tensor is None or tensor.shape != parameter.shape[1:]:
                    found = "missing" if tensor is None else f"of shape {tuple(tensor.shape)}"
                    raise ModelError(
                        f"adapter tensor {key} is {found}, expected {tuple(parameter.shape[1:])}", f"slot {slot}", "rebuild it"
                    )
                with torch.no_grad():
                    parameter[slot].copy_(tensor)


def install(
    model: nn.Module, target_modules: Iterable[str], num_adapters: int, rank: int, alpha: float, dropout: float = 0.0
) -> AdapterBank:
    """Freeze `model`, wrap every linear layer whose last name is a target, and return the bank; raises ModelError if none is found."""
    targets, gates = set(target_modules), Gates()
    model.requires_grad_(False)
    found = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear) and name.split(".")[-1] in targets]
    missing = targets - {name.split(".")[-1] for name, _ in found}
    if missing:
        raise ModelError(
            f"the base has no linear layer called {', '.join(sorted(missing))}", "adapter.target_modules", "name layers of this base"
        )
    layers = {}
    for name, linear in found:
        layer = BankLinear(linear, num_adapters, rank, alpha / rank, dropout, gates)
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer)
        layers[name] = layer
    return AdapterBank(layers, gates)


def peft_key(layer: str, matrix: str) -> str:
    """The tensor name PEFT gives a LoRA matrix of a causal language model."""
    return f"base_model.model.{layer}.{matrix}.weight"


def _layer_index(name: str) -> int:
    return next((int(part) for part in name.split(".") if part.isdigit()), 0)


def _full_shape(parameter: nn.Parameter) -> torch.Size:
    return getattr(parameter, "ds_shape", parameter.shape)  # under ZeRO-3 the visible tensor is empty
