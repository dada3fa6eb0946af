"""Loading what a model folder holds: nothing is fetched, no code of the folder's is run, and no number is left to chance."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypedDict

from thinkrec.config.deepspeed import DeepSpeedFile
from thinkrec.errors import ModelError
from thinkrec.prompt.model_folder import is_quantised, listed
from thinkrec.prompt.tokenizer import LOCAL

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel


class CausalLM(Protocol):
    """What is asked of a causal language model of transformers, beside being a module."""

    config: PreTrainedConfig
    generation_config: GenerationConfig
    model: nn.Module
    lm_head: nn.Module

    def get_input_embeddings(self) -> nn.Module: ...
    def generate(self, **settings: object) -> Tensor: ...
    def set_attn_implementation(self, name: str) -> None: ...


class LoadingInfo(TypedDict):
    """What transformers tells of a load: tensors that the files lack, have beside, or have in another shape than the model."""

    missing_keys: Collection[str]
    unexpected_keys: Collection[str]
    mismatched_keys: Collection[tuple[str, Sequence[int], Sequence[int]]]


class AutoClass(Protocol):
    """A class of transformers that finds the class of a model by its configuration: AutoModelForCausalLM and the like."""

    def from_config(self, config: PreTrainedConfig, *, trust_remote_code: bool) -> PreTrainedModel: ...
    def from_pretrained(self, folder: str, **settings: object) -> tuple[PreTrainedModel, LoadingInfo]: ...


def load_config(folder: str | Path) -> PreTrainedConfig:
    """The configuration, of the class that transformers has for its model_type."""
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(str(folder), **LOCAL)


def load_model(folder: str | Path, dtype: str, ds_config: DeepSpeedFile | None = None) -> PreTrainedModel:
    """The frozen causal language model; with a ZeRO-3 `ds_config` its weights arrive already partitioned."""
    from transformers import AutoModelForCausalLM
    from transformers.integrations import HfDeepSpeedConfig

    stage = (ds_config or {}).get("zero_optimization", {}).get("stage", 0)
    # transformers looks for this object while it loads; the batch size only has to be there.
    keep_alive = HfDeepSpeedConfig({**(ds_config or {}), "train_micro_batch_size_per_gpu": 1}) if stage == 3 else None
    model = load_whole(AutoModelForCausalLM, folder, dtype)
    if keep_alive:
        _restore_frequencies(model)
    del keep_alive
    model.requires_grad_(False)
    return model


def _restore_frequencies(model: PreTrainedModel) -> None:
    """Compute the frequencies of the rotary embedding anew: made under ZeRO-3 they are rounded to the dtype of the weights.

    In bfloat16 that turns position 300 by half a radian; whoever loads the model plainly, to serve it, would see other positions.
    """
    for module in model.modules():
        if any(name.endswith("inv_freq") for name, _ in module.named_buffers(recurse=False)):  # Gemma 3 has one a kind of layer
            made = type(module)(module.config)
            for name, buffer in made.named_buffers():
                setattr(module, name, buffer)


def load_whole(kind: AutoClass, folder: str | Path, dtype: str, headless: bool = False) -> PreTrainedModel:
    """The model of this auto class with every tensor from the files, or ModelError; `headless` as in `account`."""
    import torch

    if is_quantised(Path(folder)):  # transformers would look for the package that wrote them
        refuse_quantised(folder)
    model, told = kind.from_pretrained(
        str(folder), dtype=getattr(torch, dtype), use_safetensors=True, output_loading_info=True, ignore_mismatched_sizes=True, **LOCAL
    )
    account(model, told, folder, headless)
    return model


def refuse_quantised(folder: str | Path) -> None:
    raise ModelError("the weights are quantised", str(folder), "use the weights they were made from, in float32, bfloat16 or float16")


def account(model: PreTrainedModel, told: LoadingInfo, folder: str | Path, headless: bool = False) -> None:
    """Refuse a load that left tensors of the model to chance or met tensors that it has no place for.

    `told` is transformers' loading info. From an encoder that is asked for its hidden states alone, `headless`, heads may be missing, and
    may be there.
    """
    missing, strange = set(told["missing_keys"]), set(told["unexpected_keys"])
    if headless:
        own = f"{model.base_model_prefix}."
        missing = {name for name in missing if not name.startswith("pooler.")}
        strange = {name for name in strange if name.startswith(own)}
    wrong = [f"{name} is {tuple(has)} and should be {tuple(should)}" for name, has, should in sorted(told["mismatched_keys"])]
    name = type(model).__name__
    for what, found in (
        (f"the weights lack tensors of {name}", missing),
        (f"the weights hold tensors that {name} has no place for", strange),
        ("the weights have other shapes than config.json", wrong),
    ):
        if found:
            raise _unlike(f"{what}: {listed(found)}", folder)


def _unlike(what: str, folder: str | Path) -> ModelError:
    return ModelError(what, str(folder), "config.json and the weights must be of one model: download or save both again")
