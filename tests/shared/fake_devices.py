"""Forward passes over fake tensors on devices that are not there."""

from __future__ import annotations

import torch
from torch.overrides import TorchFunctionMode


class Operators(TorchFunctionMode):
    """Indexing and copying as plain operators: as methods they ask for the device itself, which is not there."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch.Tensor.contiguous:
            return torch.ops.aten.clone.default(args[0], memory_format=torch.contiguous_format)
        return self.indexed(*args) if function is torch.Tensor.__getitem__ else function(*args, **(kwargs or {}))

    @staticmethod
    def indexed(tensor, index):
        index = index if isinstance(index, tuple) else (index,)
        if Ellipsis in [one for one in index if not isinstance(one, torch.Tensor)]:
            at = next(place for place, one in enumerate(index) if one is Ellipsis)
            whole = tensor.dim() - sum(one is not None and one is not Ellipsis for one in index)
            index = (*index[:at], *[slice(None)] * whole, *index[at + 1 :])
        axis, tensors = 0, list[torch.Tensor | None]()
        for one in index:
            if one is None:
                tensor = tensor.unsqueeze(axis)
            elif isinstance(one, int):
                tensor, axis = torch.ops.aten.select.int(tensor, axis, one), axis - 1
            elif isinstance(one, slice):
                tensor = torch.ops.aten.slice.Tensor(tensor, axis, one.start, one.stop, one.step or 1)
            tensors += [one if isinstance(one, torch.Tensor) else None] * (not isinstance(one, int))
            axis += 1
        return torch.ops.aten.index.Tensor(tensor, tensors) if any(one is not None for one in tensors) else tensor
