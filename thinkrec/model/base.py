"""Loading a base model: a local Hugging Face folder, safetensors only, nothing fetched and no code of the folder's run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from thinkrec.errors import MissingFileError, ModelError
from thinkrec.model.prompt import SLOT

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")


def check_folder(path: str | Path) -> Path:
    """The folder if it can be a base; raises MissingFileError or ModelError. Needs neither torch nor transformers."""
    folder = Path(path)
    if not folder.is_dir():
        raise MissingFileError("the base folder is not there", str(folder), "base.path must name a local Hugging Face folder")
    if not (folder / "config.json").is_file():
        raise ModelError("the base folder has no config.json", str(folder), "point base.path at the folder that from_pretrained would take")
    _read_object(folder / "config.json")
    if not any(folder.glob("*.safetensors")):
        others = sorted(p.name for p in folder.glob("*.bin")) or "no weights at all"
        raise ModelError(f"the base folder has no safetensors file ({others})", str(folder), "convert the weights; pickles are not loaded")
    _check_weights(folder)
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise ModelError("the base folder has no tokenizer", str(folder), f"put one of {', '.join(TOKENIZER_FILES)} beside the weights")
    return folder


def _check_weights(folder: Path) -> None:
    """Read the header of every weight file: a torn download or a renamed pickle is found here, and not by a worker."""
    from safetensors import SafetensorError, safe_open

    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, "np"):
                pass
        except (SafetensorError, OSError) as error:
            raise ModelError(f"this is no whole safetensors file: {error}", str(file), "download or convert it again") from None
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        shards = _read_object(index).get("weight_map", {})
        absent = sorted(name for name in {*shards.values()} if Path(name).name != name or not (folder / name).is_file())
        if absent:
            raise ModelError(f"the index names {absent[0]!r}, which is not in the folder", str(index), "download the missing files")


def _read_object(file: Path) -> dict[str, Any]:
    try:
        value: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"this is not JSON: {error}", str(file), "download it again") from None
    if not isinstance(value, dict):
        raise ModelError(f"this holds a {type(value).__name__}, not an object", str(file), "download it again")
    return value


def load_tokenizer(folder: str | Path) -> Any:
    """The tokenizer of a base, with the soft-slot token added and a padding token set."""
    from transformers import AutoTokenizer

    return add_missing_tokens(AutoTokenizer.from_pretrained(str(folder), local_files_only=True))


def add_missing_tokens(tokenizer: Any) -> Any:
    """The tokenizer itself, with what prompts and batches need and a base may lack."""
    if SLOT not in tokenizer.get_added_vocab():
        tokenizer.add_tokens([SLOT], special_tokens=True)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(folder: str | Path, dtype: str, ds_config: dict[str, Any] | None = None) -> Any:
    """The frozen causal language model; with a ZeRO-3 `ds_config` its weights arrive already partitioned."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.integrations import HfDeepSpeedConfig

    stage = (ds_config or {}).get("zero_optimization", {}).get("stage", 0)
    # transformers looks for this object while it loads; the batch size only has to be there.
    keep_alive = HfDeepSpeedConfig({**(ds_config or {}), "train_micro_batch_size_per_gpu": 1}) if stage == 3 else None
    model = AutoModelForCausalLM.from_pretrained(
        str(folder), dtype=getattr(torch, dtype), local_files_only=True, use_safetensors=True, trust_remote_code=False
    )
    if keep_alive:
        _restore_frequencies(model)
    del keep_alive
    model.requires_grad_(False)
    return model


def _restore_frequencies(model: Any) -> None:
    """Compute the frequencies of the rotary embedding anew: made under ZeRO-3 they are rounded to the dtype of the weights.

    In bfloat16 that turns position 300 by half a radian; whoever loads the model plainly, to serve it, would see other positions.
    """
    for module in model.modules():
        if hasattr(module, "inv_freq"):
            made = type(module)(module.config)
            for name, buffer in made.named_buffers():
                setattr(module, name, buffer)
