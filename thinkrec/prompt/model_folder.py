"""What lies in a model folder: a local Hugging Face folder with safetensors, read from its JSON files and the headers of its weights.

Needs neither torch nor transformers, loads no weights and runs no code.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thinkrec.errors import MissingFileError, ModelError
from thinkrec.store.address import is_folder
from thinkrec.store.artefacts import fetch

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")
OTHER_WEIGHTS = (".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".npz")
OBJECTS = ("config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json", "tokenizer.json")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "sentencepiece.bpe.model")
QUANTISED = ("quantization_config", "compression_config", "quantization")  # bitsandbytes, GPTQ, AWQ, FP8; compressed-tensors; MLX
QUANTISERS = ("quantize_config.json", "quant_config.json")  # AutoGPTQ, AWQ
FOREIGN = ("attn_implementation", "_attn_implementation", "experts_implementation", "_experts_implementation")
AGAIN = "download it again"


@dataclass(frozen=True)
class Header:
    """What a file says of a tensor before its numbers."""

    file: Path
    shape: tuple[int, ...]
    dtype: str  # as safetensors calls it: F32, BF16, I8


def check_folder(path: str | Path, key: str = "base.path") -> Path:
    """The folder if its files are whole and belong together; `key` of the run file names it. Raises MissingFileError or ModelError.

    Of a folder at an address it is this node's copy, which is made once.
    """
    if not is_folder(str(path)):
        raise MissingFileError("the model folder is not there", str(path), f"{key} must name a Hugging Face folder, by path or address")
    folder = fetch(str(path))
    if not (folder / "config.json").is_file():
        raise ModelError("the model folder has no config.json", str(folder), f"point {key} at the folder that from_pretrained would take")
    for name in OBJECTS:
        if (folder / name).is_file():
            read_object(folder / name)
    _check_config(folder)
    if (folder / "adapter_config.json").is_file():
        raise ModelError("an adapter lies in the model folder, and some loaders would add it", str(folder), "move it to one of its own")
    if not any(folder.glob("*.safetensors")):
        others = sorted(file.name for file in folder.iterdir() if file.suffix in OTHER_WEIGHTS) or "no weights at all"
        raise ModelError(f"the model folder has no safetensors file ({others})", str(folder), "convert the weights; pickles are not loaded")
    read_headers(folder)
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise ModelError("the model folder has no tokenizer", str(folder), f"put one of {', '.join(TOKENIZER_FILES)} beside the weights")
    return folder


def read_headers(folder: Path) -> dict[str, Header]:
    """The tensors of a folder by name. A torn download, a renamed pickle or a stray shard is found here, and not by a worker."""
    from safetensors import SafetensorError, safe_open

    found: dict[str, Header] = {}
    for file in _weight_files(folder):
        try:
            with safe_open(file, "np") as opened:
                tensors = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118
                headers = {name: Header(file, tuple(tensor.get_shape()), str(tensor.get_dtype())) for name, tensor in tensors.items()}
        except (SafetensorError, OSError) as error:
            raise ModelError(f"truncated or not a safetensors file: {error}", str(file), "download or convert it again") from None
        if twice := sorted(found.keys() & headers.keys()):
            raise ModelError(f"{listed(twice)} stand in this file and in another one", str(file), "download the folder again")
        found |= headers
    return found


def read_object(file: Path) -> dict[str, Any]:
    """A JSON file that holds an object; raises ModelError."""
    try:
        value: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"this is not JSON: {error}", str(file), AGAIN) from None
    if not isinstance(value, dict):
        raise ModelError(f"this holds a {type(value).__name__}, not an object", str(file), AGAIN)
    return value


def is_quantised(folder: Path) -> bool:
    """Whether the weights are integers or small floats that only mean something to the tool that wrote them."""
    config = read_object(folder / "config.json")
    return any(config.get(key) for key in QUANTISED) or any((folder / name).is_file() for name in QUANTISERS)


def listed(names: Collection[str], most: int = 3) -> str:
    """`a, b, c and 7 more`."""
    ordered = sorted(names)
    return ", ".join(ordered[:most]) + (f" and {len(ordered) - most} more" if len(ordered) > most else "")


def _check_config(folder: Path) -> None:
    """Refuse what would have a loader fetch code, or read other weights than those that are looked at here."""
    file = folder / "config.json"
    config = read_object(file)
    for part in (config, *(value for value in config.values() if isinstance(value, dict))):
        for name in FOREIGN:
            if "/" in str(part.get(name) or ""):
                raise ModelError(f"{name} = {part[name]!r} names code to fetch and run", str(file), f"remove {name} from it")
    if config.get("transformers_weights"):
        raise ModelError("transformers_weights names other weights than the usual ones", str(file), "remove it, and call them " + WEIGHTS)


def _weight_files(folder: Path) -> list[Path]:
    """The files that loaders read: the one whole file, or those that the index names. Others (consolidated.safetensors) are left alone."""
    whole, index = folder / WEIGHTS, folder / INDEX
    named = _indexed(index) if index.is_file() else {}
    files = {*named.values()}
    if stray := {file.name for file in folder.glob("*.safetensors") if SHARD.fullmatch(file.name)} - files:
        raise ModelError(
            f"no index names {listed(stray)}", str(folder), f"download {INDEX} and what it names again, and remove other shards"
        )
    if whole.is_file():
        if files - {WEIGHTS}:
            raise ModelError(f"{WEIGHTS} stands beside an index of other files", str(folder), "remove the one that is not meant")
        return [whole]
    if not named:
        present = listed([file.name for file in folder.glob("*.safetensors")])
        raise ModelError(f"there is neither {WEIGHTS} nor {INDEX}, only {present}", str(folder), "download the folder again")
    return [folder / name for name in sorted(files)]


def _indexed(index: Path) -> Mapping[str, str]:
    """Tensor -> file, as the index has it, each of them a file of the folder."""
    named = read_object(index).get("weight_map")
    if not isinstance(named, dict) or not all(isinstance(name, str) for name in named.values()):
        raise ModelError("the index has no weight_map of file names", str(index), AGAIN)
    absent = sorted(name for name in {*named.values()} if Path(name).name != name or not (index.parent / name).is_file())
    if absent:
        raise ModelError(f"the index names {absent[0]!r}, which is not in the folder", str(index), "download the missing files")
    return named
