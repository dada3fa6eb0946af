"""Adapters on disk are PEFT's: names, shapes and config as plain PEFT and vLLM load them; and the gate every one must pass.

The commonest complaint about LoRA under ZeRO-3 is an adapter file that is empty or does nothing; no expert is done before its file has the
tensors PEFT asks for, those that were trained, finite and not zero, and the adapter moves the base's logits. All of that without a second
base: PEFT names and shapes its tensors over a model that has no weights, and the logits come from the one that is in training.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from thinkrec.config.model import AdapterSection
from thinkrec.errors import ExportRefused, MissingFileError, ModelError
from thinkrec.model.adapter_bank import AdapterBank, peft_key
from thinkrec.model.base import load_config

WEIGHTS = "adapter_model.safetensors"


def peft_tensors(bank: AdapterBank, weights: Mapping[str, Tensor], slot: int = 0) -> dict[str, Tensor]:
    """PEFT-named float32 tensors of one slot, on the host, from the parameters of any model around the bank, by name.

    What stands before the layer's own name does not count (`llm.` in a recommender). A layer that is not among the weights was not trained
    and is left out; raises ModelError when none is, or when two names are one layer's.
    """
    return {key: weights[name][slot].detach().to("cpu", torch.float32).contiguous() for name, key in _peft_keys(bank, weights).items()}


def slot_weights(bank: AdapterBank, names: Iterable[str], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The way back: float32 parameters (1, ...) of one slot by these names, from PEFT-named tensors, which may be more."""
    return {name: tensors[key][None].float() for name, key in _peft_keys(bank, list(names)).items()}


def _peft_keys(bank: AdapterBank, weights: Collection[str]) -> dict[str, str]:
    """The PEFT name of each parameter of any model around the bank; raises ModelError as `peft_tensors` says."""
    own = {name: peft_key(*name.rsplit(".", 1)) for name, _ in bank.named_parameters()}
    found: dict[str, str] = {}
    for name in weights:
        pieces = name.split(".")
        for end in (".".join(pieces[at:]) for at in range(len(pieces))):
            if end in own and found.setdefault(end, name) != name:
                raise ModelError(f"{found[end]} and {name} are both {end}", "adapter weights", "give the parameters of one model")
    if not found:
        what = (
            f"none of the {len(weights)} weights is of a bank layer: {next(iter(own))} is wanted, {next(iter(weights), 'nothing')} is there"
        )
        raise ModelError(what, "adapter weights", "give the parameters of the model that the bank is in, by name")
    return {name: own[end] for end, name in found.items()}


def write_adapter(folder: str | Path, tensors: Mapping[str, Tensor], settings: AdapterSection, base_folder: str | Path) -> None:
    """Write `adapter_model.safetensors` and `adapter_config.json`."""
    from peft import LoraConfig
    from safetensors.torch import save_file

    Path(folder).mkdir(parents=True, exist_ok=True)
    save_file(dict(tensors), Path(folder) / WEIGHTS, metadata={"format": "pt"})
    LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=list(settings.target_modules),
        task_type="CAUSAL_LM",
        base_model_name_or_path=str(base_folder),
        inference_mode=True,
    ).save_pretrained(str(folder))


def read_adapter(folder: str | Path) -> dict[str, Tensor]:
    """The tensors of an adapter folder by PEFT name; raises MissingFileError."""
    from safetensors.torch import load_file

    file = Path(folder) / WEIGHTS
    if not file.is_file():
        raise MissingFileError("there is no adapter in this folder", str(file), "run the stage that trains it")
    tensors: dict[str, Tensor] = load_file(file)
    return tensors


def check_export(folder: Path, tensors: Mapping[str, Tensor], base: Path, logits: tuple[Tensor, Tensor]) -> None:
    """The gate: the file holds `tensors` bit for bit, under the names and in the shapes that PEFT wants for the base in folder `base`.

    `logits` of some probe, by the base alone and with the adapter, both of any one shape. Raises ExportRefused and says what is wrong.
    """
    _check_tensors(folder, read_adapter(folder), tensors, base)
    before, after = logits
    if not bool(after.isfinite().all()):
        _refuse(folder, "its logits are not finite")
    if torch.equal(before, after):
        _refuse(folder, "it does not move the logits of the base")


def peft_shapes(folder: Path, base: Path) -> dict[str, torch.Size]:
    """Names and shapes of the tensors PEFT makes for the config of an adapter folder; of the base only `config.json` is read."""
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(load_config(base), trust_remote_code=False)
        adapted = get_peft_model(model, LoraConfig.from_pretrained(str(folder)))
    # "auto" would ask the hub about a base that this config knows by a path of its own.
    found = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    return {name: tensor.shape for name, tensor in found.items()}


def _check_tensors(folder: Path, found: Mapping[str, Tensor], tensors: Mapping[str, Tensor], base: Path) -> None:
    expected, rank = peft_shapes(folder, base), json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))["r"]
    if set(found) != set(expected):
        _refuse(folder, f"{len(set(found) ^ set(expected))} tensor names differ from the base's layers")
    for name, tensor in found.items():
        if tensor.dim() == 2 and rank not in tensor.shape:
            _refuse(folder, f"{name} does not have rank {rank}")
        if tensor.shape != expected[name]:
            _refuse(folder, f"{name} has shape {tuple(tensor.shape)}, expected {tuple(expected[name])}")
        if not bool(tensor.isfinite().all()):
            _refuse(folder, f"{name} is not finite")
        if name not in tensors or not torch.equal(tensor.view(torch.uint8), tensors[name].view(torch.uint8)):
            _refuse(folder, f"{name} is not what was trained")
    if not any(bool(tensor.any()) for name, tensor in found.items() if "lora_B" in name):
        _refuse(folder, "every B is zero: nothing was learned")


def _refuse(folder: Path, reason: str) -> None:
    raise ExportRefused(f"the adapter was not exported: {reason}", str(folder), "look at the loss curve of this run; nothing was committed")
