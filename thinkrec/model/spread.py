"""A base over several GPUs of one process: its layers in order, so many on each GPU; everything else on the first.

Nothing is sharded inside a layer, so numbers are those of one GPU. One GPU computes at a time: this holds a base that fits no GPU whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import nn

from thinkrec.model.recommender import Recommender


def spread(recommender: Recommender, devices: Sequence[torch.device | str]) -> Recommender:
    """The recommender on these devices, one or several; what a layer is given is sent to where its weights lie."""
    first, decoder = devices[0], recommender.llm.model
    lists = [child for child in decoder.children() if isinstance(child, nn.ModuleList)]
    if len(devices) == 1 or not lists:
        return recommender.to(first)
    for layers in lists:
        for at, layer in enumerate(layers):
            _place(layer, devices[at * len(devices) // len(layers)])
    for module in (*decoder.children(), recommender.llm.lm_head, recommender.projector):
        if module is not None and module not in lists:
            _place(module, first)
    recommender.verdict_ids = recommender.verdict_ids.to(first)
    return recommender


def _place(module: nn.Module, device: torch.device | str) -> None:
    module.to(device).register_forward_pre_hook(partial(_send, device), with_kwargs=True)


def _send(device: torch.device | str, _: nn.Module, positional: tuple[object, ...], named: dict[str, object]) -> object:
    """Arguments where the module lies: tensors, tuples of them, and trees (`PrefixTree.to`)."""
    from accelerate.utils import send_to_device

    return send_to_device((positional, named), device)
