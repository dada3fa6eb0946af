"""Adapters on disk are PEFT's: names, shapes and config as plain PEFT and vLLM load them; and the gate every one must pass.

The commonest complaint about LoRA under ZeRO-3 is an adapter file that is empty or does nothing; no expert is done before its file has the
right tensors, finite and not zero, loads through PEFT and moves the base's logits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from thinkrec.config import AdapterSection
from thinkrec.errors import ExportRefused, MissingFileError
from thinkrec.model.adapters import AdapterBank, peft_key

WEIGHTS = "adapter_model.safetensors"


def peft_tensors(bank: AdapterBank, weights: Mapping[str, Tensor], slot: int = 0, prefix: str = "llm.") -> dict[str, Tensor]:
    """PEFT-named tensors of one slot, from a recommender's parameters by name (as gathered from ZeRO partitions)."""
    tensors = {}
    for layer in bank.layers:
        for matrix in ("lora_A", "lora_B"):
            name = f"{prefix}{layer}.{matrix}"
            if name in weights:
                tensors[peft_key(layer, matrix)] = weights[name][slot].detach().to("cpu", torch.float32).contiguous()
    return tensors


def write_adapter(folder: Path, tensors: Mapping[str, Tensor], settings: AdapterSection, base_folder: str | Path) -> None:
    """Write `adapter_model.safetensors` and `adapter_config.json`."""
    from peft import LoraConfig
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file(dict(tensors), folder / WEIGHTS, metadata={"format": "pt"})
    LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=list(settings.target_modules),
        task_type="CAUSAL_LM",
        base_model_name_or_path=str(base_folder),
        inference_mode=True,
    ).save_pretrained(str(folder))


def read_adapter(folder: Path) -> dict[str, Tensor]:
    """The tensors of an adapter folder by PEFT name."""
    from safetensors.torch import load_file

    if not (folder / WEIGHTS).is_file():
        raise MissingFileError("there is no adapter in this folder", str(folder / WEIGHTS), "run the stage that trains it")
    tensors: dict[str, Tensor] = load_file(folder / WEIGHTS)
    return tensors


def check_export(folder: Path, base: Any, probe: Tensor, expected: Mapping[str, torch.Size]) -> None:
    """The gate: `base` is a plain causal model without a bank, `probe` (R, T) token ids; raises ExportRefused and says what is wrong."""
    from peft import PeftModel

    _check_tensors(folder, read_adapter(folder), expected)
    with torch.no_grad():
        before = base(input_ids=probe).logits
        adapted = PeftModel.from_pretrained(base, str(folder)).eval()
        after = adapted(input_ids=probe).logits
        adapted.unload()
    if not bool(after.isfinite().all()):
        _refuse(folder, "its logits are not finite")
    if torch.equal(before, after):
        _refuse(folder, "it does not move the logits of the base")


def _check_tensors(folder: Path, tensors: Mapping[str, Tensor], expected: Mapping[str, torch.Size]) -> None:
    settings = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    if set(tensors) != set(expected):
        _refuse(folder, f"{len(set(tensors) ^ set(expected))} tensor names differ from the base's layers")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name]:
            _refuse(folder, f"{name} has shape {tuple(tensor.shape)}, expected {tuple(expected[name])}")
        if settings["r"] not in tensor.shape:
            _refuse(folder, f"{name} does not have rank {settings['r']}")
        if not bool(tensor.isfinite().all()):
            _refuse(folder, f"{name} is not finite")
    if not any(bool(tensor.any()) for name, tensor in tensors.items() if "lora_B" in name):
        _refuse(folder, "every B is zero: nothing was learned")


def _refuse(folder: Path, reason: str) -> None:
    raise ExportRefused(f"the adapter was not exported: {reason}", str(folder), "look at the loss curve of this run; nothing was committed")
