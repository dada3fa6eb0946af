"""Loading the tokenizer of a model folder: nothing is fetched and no code of the folder's is run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from thinkrec.errors import ModelError
from thinkrec.prompt.model_folder import read_object

if TYPE_CHECKING:
    from torch import Tensor

SLOT = "<|vector|>"
LOCAL = {"local_files_only": True, "trust_remote_code": False}  # said wherever a loader of transformers meets a folder


class Tokenizer(Protocol):
    """What is asked of a tokenizer of transformers."""

    name_or_path: str
    chat_template: str | None
    bos_token: str | None
    eos_token: str | None
    pad_token: str | None
    eos_token_id: int
    pad_token_id: int

    def __len__(self) -> int: ...
    def __call__(self, *texts: list[str], **settings: object) -> dict[str, Tensor]: ...
    def encode(self, text: str, add_special_tokens: bool = ...) -> list[int]: ...
    def decode(self, ids: Sequence[int] | Tensor, skip_special_tokens: bool = ...) -> str: ...
    def convert_tokens_to_ids(self, token: str) -> int: ...
    def get_vocab(self) -> dict[str, int]: ...
    def get_added_vocab(self) -> dict[str, int]: ...
    def add_tokens(self, tokens: list[str], special_tokens: bool = ...) -> int: ...
    def apply_chat_template(self, messages: list[dict[str, str]], **settings: object) -> object: ...
    def save_pretrained(self, folder: str) -> object: ...


def load_bare_tokenizer(folder: str | Path) -> Tokenizer:
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
    tokenizer: Tokenizer = AutoTokenizer.from_pretrained(str(folder), **LOCAL)
    return tokenizer


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """The tokenizer of a base, with the soft-slot token added and a padding token set; raises ModelError if it has no end token."""
    return add_missing_tokens(load_bare_tokenizer(folder))


def add_missing_tokens(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer itself, with what prompts and batches need and a base may lack."""
    if tokenizer.eos_token_id is None:
        raise ModelError("the tokenizer has no end token", str(tokenizer.name_or_path), "name its eos_token in tokenizer_config.json")
    if SLOT not in tokenizer.get_added_vocab():
        tokenizer.add_tokens([SLOT], special_tokens=True)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer
