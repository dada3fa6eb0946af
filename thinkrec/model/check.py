"""Whether a run can use a model folder, found out before any stage runs and without loading a weight.

The files' headers are loaded into the model's own class on torch's meta device, by the loader that will load the numbers: so what passes
here is loaded whole. The tokenizer and its chat template are tried.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from thinkrec.errors import ModelError, ThinkrecError
from thinkrec.model.base import AutoClass, account, load_config, refuse_quantised
from thinkrec.prompt.chat import surroundings
from thinkrec.prompt.model_folder import Header, check_folder, is_quantised, listed, read_headers
from thinkrec.prompt.template import verdict_ids
from thinkrec.prompt.tokenizer import SLOT, Tokenizer, load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FLOATS = ("F64", "F32", "F16", "BF16")
BLOCK = 4096  # rows of a table that are compared at once


@dataclass(frozen=True)
class BaseFolder:
    """A base: adapters are trained on its layers, and its scores are read from its head. `date` as in prompt.date."""

    path: str
    target_modules: tuple[str, ...]
    date: str

    def check(self) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        from thinkrec.model.adapter_bank import install

        folder = check_folder(self.path, "base.path")
        with refusing(folder):
            _check_tokenizer(folder, load_tokenizer(folder), self.date)
            model = shell(AutoModelForCausalLM, folder)
            _check_head(model, folder)
            with torch.device("meta"):
                install(model, self.target_modules, num_adapters=1, rank=1, alpha=1.0)


@dataclass(frozen=True)
class GeneratorFolder:
    """A model that writes text. A teacher's prompts wear its chat template; an extractor's do not, and its `date` is empty."""

    path: str
    key: str
    date: str
    kind: str  # engine.kind: what loads it

    def check(self) -> None:
        from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoModelForCausalLM

        folder = check_folder(self.path, self.key)
        with refusing(folder):
            config = load_config(folder)
            _check_tokenizer(folder, load_tokenizer(folder), self.date)
            if self.kind == "http":  # the server has the weights, of whatever form
                return
            if not hasattr(config.get_text_config(), "max_position_embeddings"):
                raise ModelError("config.json does not say how many tokens the model takes", str(folder), "add max_position_embeddings")
            # vLLM reads quantised weights and classes that transformers has not, and accounts for their tensors itself.
            if self.kind == "hf" or (type(config) in MODEL_FOR_CAUSAL_LM_MAPPING and not is_quantised(folder)):
                shell(AutoModelForCausalLM, folder)


def shell(kind: AutoClass, folder: Path, headless: bool = False) -> PreTrainedModel:
    """The model of this auto class on the meta device; raises ModelError unless the files hold each of its tensors and no other."""
    import torch

    if is_quantised(folder):
        refuse_quantised(folder)
    headers = read_headers(folder)
    with torch.device("meta"), _quiet():
        drawn = kind.from_config(load_config(folder), trust_remote_code=False)
        tensors = {name: torch.empty(header.shape) for name, header in headers.items()}
        model, told = type(drawn).from_pretrained(
            None,
            config=drawn.config,
            state_dict=tensors,
            device_map="meta",
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    account(model, told, folder, headless)
    _check_numbers(model, headers, folder)
    return model


def _check_numbers(model: PreTrainedModel, headers: Mapping[str, Header], folder: Path) -> None:
    """Refuse weights that are no plain floats, and two tables where config.json says that they are one."""
    own = model.state_dict()
    small = [name for name, header in headers.items() if name in own and own[name].is_floating_point() and header.dtype not in FLOATS]
    if small:
        raise ModelError(
            f"these weights are {headers[small[0]].dtype}: {listed(small)}", str(folder), "use weights in float32, bfloat16 or float16"
        )
    for one, other in model.all_tied_weights_keys.items():
        if one in headers and other in headers and not _equal(headers, one, other):
            raise ModelError(
                f"config.json says that {one} is {other}, and the weights hold two different ones",
                str(folder / "config.json"),
                "set tie_word_embeddings = false if both are meant, or remove the one that is not",
            )


def _equal(headers: Mapping[str, Header], one: str, other: str) -> bool:
    """Whether two tensors of the files hold the same numbers; block by block, as they may be a gigabyte each."""
    import torch
    from safetensors import safe_open

    with safe_open(headers[one].file, "pt") as first, safe_open(headers[other].file, "pt") as second:
        rows, others = first.get_slice(one), second.get_slice(other)
        return all(torch.equal(rows[at : at + BLOCK], others[at : at + BLOCK]) for at in range(0, headers[one].shape[0], BLOCK))


def _check_tokenizer(folder: Path, tokenizer: Tokenizer, date: str) -> None:
    check_ids(folder, tokenizer)
    if date:
        verdict_ids(tokenizer)
        if tokenizer.chat_template:
            surroundings(tokenizer, date)


def check_ids(folder: Path, tokenizer: Tokenizer) -> None:
    """Every token has a row of the embedding; the soft slot needs none, its row is overwritten."""
    num_rows = int(load_config(folder).get_text_config().vocab_size)
    outside = [token for token, number in tokenizer.get_vocab().items() if number >= num_rows and token != SLOT]
    if outside:
        raise ModelError(
            f"the tokenizer knows tokens that the embedding of {num_rows} rows has none for: {listed(outside)}",
            str(folder),
            "resize the embedding (resize_token_embeddings) and save the model, or use the tokenizer that the model came with",
        )


def _check_head(model: PreTrainedModel, folder: Path) -> None:
    """The score is read as `lm_head` over the last state of `model`, which must be all that the class does.

    Both ends are replaced by known numbers: what comes out between them is what the class adds.
    """
    import torch
    from torch import nn
    from transformers.modeling_outputs import MoeModelOutputWithPast

    from thinkrec.model.recommender import cap

    name, fix = type(model).__name__, "use a base that is shaped like a Llama; docs/model-folders.md lists those that are tested"
    head, inner = getattr(model, "lm_head", None), getattr(model, "model", None)
    if not isinstance(head, nn.Linear) or not isinstance(inner, nn.Module) or not hasattr(model.config, "hidden_size"):
        raise ModelError(f"{name} has no `.model` and `.lm_head` of one width", str(folder), fix)
    if head.bias is not None:
        raise ModelError(f"the head of {name} has a bias, which scores would leave out", str(folder), fix)
    table = model.get_input_embeddings()
    if any(isinstance(part, nn.Embedding) and part is not table and "position" not in at for at, part in inner.named_modules()):
        raise ModelError(f"{name} embeds tokens in more than one table", str(folder), fix)
    states = torch.linspace(-60, 60, 15, device="cpu").view(1, 3, 5)
    for part in (inner, getattr(inner, "decoder", inner)):  # OPT calls the part within
        part.forward = lambda *_, **__: MoeModelOutputWithPast(last_hidden_state=states)
    head.forward = lambda hidden: hidden
    logits = model(input_ids=torch.zeros(1, 3, dtype=torch.int64, device="cpu")).logits
    if logits.is_meta or not torch.equal(logits, cap(states, model.config)):
        raise ModelError(f"{name} does more to its logits than `.lm_head` does", str(folder), fix)


@contextmanager
def refusing(folder: Path) -> Iterator[None]:
    """Whatever a library says of a folder is the folder's fault: its files are all that was read."""
    try:
        yield
    except ThinkrecError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        raise ModelError(
            f"transformers cannot use the model folder: {text or repr(error)}", str(folder), "look at config.json and the tokenizer's files"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' own report and progress bar: `account` says what matters."""
    from transformers.utils import logging as told

    level, bar = told.get_verbosity(), told.is_progress_bar_enabled()
    told.set_verbosity(logging.CRITICAL)
    told.disable_progress_bar()
    try:
        yield
    finally:
        told.set_verbosity(level)
        if bar:
            told.enable_progress_bar()
