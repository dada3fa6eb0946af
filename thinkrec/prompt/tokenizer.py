"""Loading the tokenizer of a model folder: nothing is fetched and no code of the folder's is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from thinkrec.errors import ModelError
from thinkrec.prompt.model_folder import read_object
from thinkrec.prompt.template import SLOT

LOCAL = {"local_files_only": True, "trust_remote_code": False}  # said wherever a loader of transformers meets a folder


def load_bare_tokenizer(folder: str | Path) -> Any:
    """The tokenizer as its files have it; raises ModelError for one that only code of its own can read."""
    from transformers import AutoTokenizer
    from transformers.models.auto.tokenization_auto import tokenizer_class_from_name

    file = Path(folder) / "tokenizer_config.json"
    told = read_object(file) if file.is_file() else {}
    code = told.get("auto_map") or {}
    kind = str(told.get("tokenizer_class") or "")
    if (isinstance(code, list) or "AutoTokenizer" in code) and tokenizer_class_from_name(kind) is None:
        raise ModelError(
            f"the tokenizer {kind or 'without a class'} is code of the folder's own, which is not run",
            str(file),
            "use a model whose tokenizer transformers knows, or save this one as tokenizer.json and remove auto_map",
        )
    return AutoTokenizer.from_pretrained(str(folder), **LOCAL)


def load_tokenizer(folder: str | Path) -> Any:
    """The tokenizer of a base, with the soft-slot token added and a padding token set; raises ModelError if it has no end token."""
    return add_missing_tokens(load_bare_tokenizer(folder))


def add_missing_tokens(tokenizer: Any) -> Any:
    """The tokenizer itself, with what prompts and batches need and a base may lack."""
    if tokenizer.eos_token_id is None:
        raise ModelError("the tokenizer has no end token", str(tokenizer.name_or_path), "name its eos_token in tokenizer_config.json")
    if SLOT not in tokenizer.get_added_vocab():
        tokenizer.add_tokens([SLOT], special_tokens=True)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer
