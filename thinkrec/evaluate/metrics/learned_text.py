"""Text metrics that need a model: BERTScore and BLEURT from local Hugging Face folders, and never from anywhere else.

Both are small enough to stand here, and the published packages do not fit: bert-score 0.3.13 names its models by hub id and layer table,
BLEURT as published needs TensorFlow and is not on PyPI.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from thinkrec.errors import ModelError
from thinkrec.evaluate.metrics.score_counts import Array
from thinkrec.model.base import AutoClass, load_whole
from thinkrec.model.check import check_ids, refusing, shell
from thinkrec.prompt.model_folder import check_folder
from thinkrec.prompt.tokenizer import Tokenizer, load_bare_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Item = TypeVar("Item")
BATCH_SIZE = 32
BERT_SCORE, BLEURT = "evaluate.bert_score_path", "evaluate.bleurt_path"


@dataclass(frozen=True)
class Encoder:
    """The folder of BERTScore's encoder, as the run file names it."""

    path: str
    layer: int

    def check(self) -> None:
        """Raises ModelError or MissingFileError for one that could not measure; loads no weights."""
        from transformers import AutoModel

        _check_layer(self.layer, _shell(AutoModel, self.path, BERT_SCORE, headless=True).config.num_hidden_layers + 1, self.path)


@dataclass(frozen=True)
class Regressor:
    """The folder of a BLEURT, as the run file names it."""

    path: str

    def check(self) -> None:
        """Raises ModelError or MissingFileError for one that could not measure; loads no weights."""
        from transformers import AutoModelForSequenceClassification

        _check_output(_shell(AutoModelForSequenceClassification, self.path, BLEURT), self.path)


def bert_score(folder: str, candidates: Sequence[str], references: Sequence[str], layer: int = -1) -> Array:
    """BERTScore F (arXiv 1904.09675) of each pair, (n,), from hidden states of `layer`; 0 where one of the two has no token.

    No inverse document frequencies and no rescaling to a baseline; begin and end tokens are left out.
    """
    from transformers import AutoModel

    tokenizer, model = _load(folder, AutoModel, BERT_SCORE, headless=True)
    vectors = [
        row[kept] for texts in _batches([*candidates, *references]) for row, kept in _vectors(tokenizer, model, texts, layer, folder)
    ]
    return np.array([_matched(a, b) for a, b in zip(vectors[: len(candidates)], vectors[len(candidates) :], strict=True)])


def bleurt(folder: str, candidates: Sequence[str], references: Sequence[str]) -> Array:
    """The output of a sequence regressor for each (reference, candidate), (n,)."""
    import torch
    from transformers import AutoModelForSequenceClassification

    tokenizer, model = _load(folder, AutoModelForSequenceClassification, BLEURT)
    _check_output(model, folder)
    found = []
    for pairs in _batches(list(zip(references, candidates, strict=True))):
        first, second = map(list, zip(*pairs, strict=True))
        with torch.inference_mode():
            inputs = tokenizer(first, second, padding=True, truncation=True, return_tensors="pt")
            found.append(model(**inputs).logits[:, 0].double().numpy())
    return np.concatenate(found)


def _shell(kind: AutoClass, path: str, key: str, headless: bool = False) -> PreTrainedModel:
    """The model without its weights, once its folder has been tried."""
    folder = check_folder(path, key)
    with refusing(folder):
        tokenizer = load_bare_tokenizer(folder)
        check_ids(folder, tokenizer)
        if tokenizer.pad_token_id is None:
            raise ModelError("the tokenizer has no padding token", path, "name its pad_token in tokenizer_config.json")
        return shell(kind, folder, headless)


def _check_layer(layer: int, num_layers: int, folder: str) -> None:
    if not -num_layers <= layer < num_layers:
        raise ModelError(f"the model has no hidden layer {layer}, only {num_layers}", folder, "fix evaluate.bert_score_layer")


def _check_output(model: PreTrainedModel, folder: str) -> None:
    if model.config.num_labels != 1:
        raise ModelError(f"a classifier of {model.config.num_labels} labels is not a BLEURT model", folder, "name a folder with one output")


def _load(folder: str, kind: AutoClass, key: str, headless: bool = False) -> tuple[Tokenizer, PreTrainedModel]:
    check_folder(folder, key)
    return load_bare_tokenizer(folder), load_whole(kind, folder, "float32", headless).eval()


def _vectors(tokenizer: Tokenizer, model: PreTrainedModel, texts: list[str], layer: int, folder: str) -> Iterator[tuple[Array, Array]]:
    """For each text its token vectors (T, d) of length 1, and which are words of the text (T,)."""
    import torch

    inputs = tokenizer(texts, padding=True, truncation=True, return_special_tokens_mask=True, return_tensors="pt")
    special = inputs.pop("special_tokens_mask").bool()
    with torch.inference_mode():
        states = model(**inputs, output_hidden_states=True).hidden_states
    _check_layer(layer, len(states), folder)
    unit = torch.nn.functional.normalize(states[layer].double(), dim=-1)
    kept = inputs["attention_mask"].bool() & ~special
    yield from zip(unit.numpy(), kept.numpy(), strict=True)


def _matched(candidate: Array, reference: Array) -> float:
    if not len(candidate) or not len(reference):
        return 0.0
    similarity = candidate @ reference.T
    precision, recall = similarity.max(1).mean(), similarity.max(0).mean()
    return float(2 * precision * recall / (precision + recall))


def _batches(rows: list[Item]) -> Iterator[list[Item]]:
    return (rows[begin : begin + BATCH_SIZE] for begin in range(0, len(rows), BATCH_SIZE))
