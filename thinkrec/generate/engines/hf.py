"""The `hf` engine: transformers in static batches, for CPUs and tests, and the oracle the other engines are compared with.

Each row brings its own temperature, seed and limits into the batch. Sampling is greedy search over logits with Gumbel noise from the
row's own generator, which draws exactly from the softmax, so a row's text does not depend on its company.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from thinkrec.generate.engines import peft_folder
from thinkrec.generate.engines.prompt_encoder import Reader, first_stop
from thinkrec.generate.engines.protocol import Capability, GenParams, GenRequest, GenResult, check_capabilities
from thinkrec.model.base import load_model
from thinkrec.prompt.tokenizer import Tokenizer

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


class HfEngine:
    """A model folder in this process, on the GPU that is visible, else the CPU; `device` says otherwise."""

    capabilities: frozenset[Capability] = frozenset({"n", "score_tokens", "adapter"})

    def __init__(self, folder: str | Path, batch_size: int, device: str = "") -> None:
        self.batch_size = batch_size
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._model = load_model(folder, "float32" if device == "cpu" else "bfloat16").to(device).eval()
        self._reader = Reader.of(folder)
        self.tokenizer = self._reader.tokenizer
        # generate() fills every setting left open from the model's own generation config: give it one that is empty.
        self._model.generation_config = GenerationConfig()
        self._adapters = _Adapters(self._model)

    def generate(self, requests: Sequence[GenRequest]) -> list[GenResult]:
        """One result for each request, in order; batches are made of prompts of like length and the same adapter."""
        check_capabilities("hf", self.capabilities, requests)
        prompts, results = self._reader.read(requests)
        rows = [(at, row) for at in prompts for row in _draws(requests[at])]
        rows.sort(key=lambda row: (row[1].adapter, len(prompts[row[0]])))
        drawn: dict[int, list[GenResult]] = {}
        for adapter, group in groupby(rows, lambda row: row[1].adapter):
            alike = list(group)
            with self._adapters.active(adapter):
                for start in range(0, len(alike), self.batch_size):
                    batch = alike[start : start + self.batch_size]
                    answers = self._answer([prompts[at] for at, _ in batch], [row for _, row in batch])
                    for (at, _), answer in zip(batch, answers, strict=True):
                        drawn.setdefault(at, []).append(answer)
        results |= {at: replace(first, more=tuple(others)) for at, (first, *others) in drawn.items()}
        return [results[at] for at in range(len(requests))]

    def close(self) -> None:
        del self._model, self._adapters
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    @torch.inference_mode()
    def _answer(self, prompts: list[list[int]], requests: list[GenRequest]) -> list[GenResult]:
        width = max(map(len, prompts))
        pad_id = self.tokenizer.pad_token_id
        ids = torch.tensor([[pad_id] * (width - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        limits = [self._reader.limit(*pair) for pair in zip(requests, prompts, strict=True)]
        sampler = _Sampler([request.params for request in requests], self._model.device)
        output = self._model.generate(
            input_ids=ids.to(self._model.device),
            attention_mask=mask.to(self._model.device),
            generation_config=GenerationConfig(
                do_sample=False, num_beams=1, max_new_tokens=max(limits), eos_token_id=sorted(self._reader.end_ids), pad_token_id=pad_id
            ),
            logits_processor=LogitsProcessorList([sampler]),
            stopping_criteria=StoppingCriteriaList([_Limits(self.tokenizer, width, limits, [r.params.stop for r in requests])]),
        )
        rows = output[:, width:].tolist()
        return [self._result(*row) for row in zip(requests, rows, limits, sampler.first, strict=True)]

    def _result(self, request: GenRequest, row: list[int], limit: int, scores: tuple[float, ...]) -> GenResult:
        """Cut the row where it ended: at its end token, its stop text or its limit; what follows is padding."""
        end = next((at for at, token in enumerate(row[:limit]) if token in self._reader.end_ids), None)
        ids = tuple(row[: limit if end is None else end])
        text = str(self.tokenizer.decode(ids, skip_special_tokens=True))
        cut = first_stop(text, request.params.stop)
        ended = end is not None or cut is not None
        return GenResult(request.id, text[:cut], ids, "stop" if ended else "length", num_tokens=len(ids), scores=scores)


class _Adapters:
    """The adapters that a model was asked for, loaded by PEFT when first named; its base answers where none is named."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._peft: PeftModel | None = None

    @contextmanager
    def active(self, folder: str) -> Iterator[None]:
        """The model answers with this adapter meanwhile; raises MissingFileError where there is none."""
        if folder:
            self._load(folder, peft_folder.name_of(folder))
            yield
        elif self._peft is None:
            yield
        else:
            with self._peft.disable_adapter():
                yield

    def _load(self, folder: str, name: str) -> None:
        from peft import PeftModel

        if self._peft is None:
            self._peft = PeftModel.from_pretrained(self._model, folder, adapter_name=name)
        elif name not in self._peft.peft_config:
            self._peft.load_adapter(folder, adapter_name=name)
        self._peft.set_adapter(name)
        self._peft.eval()


class _Sampler(LogitsProcessor):  # type: ignore[misc]
    """Temperature, nucleus and Gumbel noise, row by row; a row at temperature 0 passes unchanged.

    `first` holds the log-probabilities that rows want of the first token.
    """

    def __init__(self, params: Sequence[GenParams], device: torch.device | str = "cpu") -> None:
        self._params = params
        # Where the logits are: drawn on the host, the noise of 64 rows over 128,256 tokens took .2 s a token.
        self._generators = [torch.Generator(device).manual_seed(row.seed) for row in params]
        self.first: list[tuple[float, ...]] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        scores = scores.float()
        if not self.first:
            wanted = [list(params.score_tokens) for params in self._params]
            self.first = [tuple(row.log_softmax(-1)[ids].tolist()) for row, ids in zip(scores, wanted, strict=True)]
        for row, (params, generator) in enumerate(zip(self._params, self._generators, strict=True)):
            if params.temperature:
                logits = _nucleus(scores[row] / params.temperature, params.top_p)
                scores[row] = logits - torch.empty_like(logits).exponential_(generator=generator).log()
        return scores


class _Limits(StoppingCriteria):  # type: ignore[misc]
    """Which rows are done by their own max_tokens or stop texts."""

    def __init__(self, tokenizer: Tokenizer, width: int, limits: Sequence[int], stops: Sequence[tuple[str, ...]]) -> None:
        self._tokenizer, self._width, self._stops = tokenizer, width, stops
        self._limits = torch.tensor(limits)

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: object) -> Tensor:
        done = self._limits <= input_ids.shape[1] - self._width
        for row, stop in enumerate(self._stops):
            if stop and not done[row]:
                done[row] = first_stop(self._tokenizer.decode(input_ids[row, self._width :]), stop) is not None
        return done.to(input_ids.device)


def _draws(request: GenRequest) -> list[GenRequest]:
    """A request for n answers as n requests, each with a seed of its own."""
    seeds = range(request.params.seed, request.params.seed + request.params.n)
    return [replace(request, params=replace(request.params, n=1, seed=seed)) for seed in seeds]


def _nucleus(logits: Tensor, top_p: float) -> Tensor:
    """Keep the most likely tokens whose mass first reaches `top_p`, the last one included."""
    if top_p >= 1:
        return logits
    ordered, order = logits.sort(descending=True)
    mass_before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
    return logits.scatter(0, order[mass_before >= top_p], float("-inf"))
