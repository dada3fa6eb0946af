"""The `hf` engine: transformers in static batches, for CPUs and tests, and the oracle the other engines are compared with.

Each row brings its own temperature, seed and limits into the batch. Sampling is greedy search over logits with Gumbel noise from the
row's own generator, which draws exactly from the softmax, so a row's text does not depend on its company.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from thinkrec.generate.engine import Capability, GenParams, GenRequest, GenResult, check_capabilities
from thinkrec.model.base import load_model, load_tokenizer


class HfEngine:
    """A model folder in this process, on the GPU that is visible, else the CPU."""

    capabilities: frozenset[Capability] = frozenset()

    def __init__(self, folder: str | Path, batch_size: int) -> None:
        self.batch_size = batch_size
        self.tokenizer = load_tokenizer(folder)
        model = load_model(folder, "bfloat16" if torch.cuda.is_available() else "float32")
        self._model = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        own = self._model.generation_config.eos_token_id
        self._end_ids = sorted({self.tokenizer.eos_token_id, *(own if isinstance(own, list) else [own])} - {None})
        # generate() fills every setting left open from the model's own generation config: give it one that is empty.
        self._model.generation_config = GenerationConfig()
        self._max_tokens = int(self._model.config.max_position_embeddings)
        self._num_embeddings = int(self._model.get_input_embeddings().num_embeddings)

    def generate(self, requests: Sequence[GenRequest]) -> list[GenResult]:
        """One result for each request, in order; batches are made of prompts of like length."""
        check_capabilities("hf", self.capabilities, requests)
        prompts = [self._ids(request) for request in requests]
        problems = [self._problem(prompt) for prompt in prompts]
        results = [GenResult(request.id, "", finish_reason="error", error=why) for request, why in zip(requests, problems, strict=True)]
        good = sorted((at for at, why in enumerate(problems) if not why), key=lambda at: len(prompts[at]))
        for start in range(0, len(good), self.batch_size):
            batch = good[start : start + self.batch_size]
            for at, answer in zip(batch, self._answer([prompts[at] for at in batch], [requests[at] for at in batch]), strict=True):
                results[at] = answer
        return results

    def close(self) -> None:
        del self._model
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _ids(self, request: GenRequest) -> list[int]:
        if isinstance(request.prompt, str):
            return list(self.tokenizer.encode(request.prompt, add_special_tokens=False))
        return list(request.prompt)

    def _problem(self, prompt: list[int]) -> str:
        if not prompt:
            return "the prompt is empty"
        if len(prompt) >= self._max_tokens:
            return f"the prompt has {len(prompt)} tokens, the model takes {self._max_tokens} with the answer"
        if not 0 <= min(prompt) <= max(prompt) < self._num_embeddings:
            return f"a token id is outside the model's {self._num_embeddings}"
        return ""

    @torch.inference_mode()
    def _answer(self, prompts: list[list[int]], requests: list[GenRequest]) -> list[GenResult]:
        width = max(map(len, prompts))
        pad_id = self.tokenizer.pad_token_id
        ids = torch.tensor([[pad_id] * (width - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        limits = [min(r.params.max_tokens, self._max_tokens - len(prompt)) for r, prompt in zip(requests, prompts, strict=True)]
        output = self._model.generate(
            input_ids=ids.to(self._model.device),
            attention_mask=mask.to(self._model.device),
            generation_config=GenerationConfig(
                do_sample=False, num_beams=1, max_new_tokens=max(limits), eos_token_id=self._end_ids, pad_token_id=pad_id
            ),
            logits_processor=LogitsProcessorList([_Sampler([request.params for request in requests])]),
            stopping_criteria=StoppingCriteriaList([_Limits(self.tokenizer, width, limits, [r.params.stop for r in requests])]),
        )
        return [self._result(request, row, limit) for request, row, limit in zip(requests, output[:, width:].tolist(), limits, strict=True)]

    def _result(self, request: GenRequest, row: list[int], limit: int) -> GenResult:
        """Cut the row where it ended: at its end token, its stop text or its limit; what follows is padding."""
        end = next((at for at, token in enumerate(row[:limit]) if token in self._end_ids), None)
        ids = tuple(row[: limit if end is None else end])
        text = str(self.tokenizer.decode(ids, skip_special_tokens=True))
        cut = _first_stop(text, request.params.stop)
        ended = end is not None or cut is not None
        return GenResult(request.id, text[:cut], ids, "stop" if ended else "length", num_tokens=len(ids))


class _Sampler(LogitsProcessor):  # type: ignore[misc]
    """Temperature, nucleus and Gumbel noise, row by row; a row at temperature 0 passes unchanged."""

    def __init__(self, params: Sequence[GenParams]) -> None:
        self._params = params
        self._generators = [torch.Generator().manual_seed(row.seed) for row in params]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        scores = scores.float()
        for row, (params, generator) in enumerate(zip(self._params, self._generators, strict=True)):
            if params.temperature:
                logits = _nucleus(scores[row] / params.temperature, params.top_p)
                exponential = torch.empty(logits.shape).exponential_(generator=generator)  # on the CPU, so all devices draw alike
                scores[row] = logits - exponential.log().to(logits.device)
        return scores


class _Limits(StoppingCriteria):  # type: ignore[misc]
    """Which rows are done by their own max_tokens or stop texts."""

    def __init__(self, tokenizer: Any, width: int, limits: Sequence[int], stops: Sequence[tuple[str, ...]]) -> None:
        self._tokenizer, self._width, self._stops = tokenizer, width, stops
        self._limits = torch.tensor(limits)

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        done = self._limits <= input_ids.shape[1] - self._width
        for row, stop in enumerate(self._stops):
            if stop and not done[row]:
                done[row] = _first_stop(self._tokenizer.decode(input_ids[row, self._width :]), stop) is not None
        return done.to(input_ids.device)


def _nucleus(logits: Tensor, top_p: float) -> Tensor:
    """Keep the most likely tokens whose mass first reaches `top_p`, the last one included."""
    if top_p >= 1:
        return logits
    ordered, order = logits.sort(descending=True)
    mass_before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
    return logits.scatter(0, order[mass_before >= top_p], float("-inf"))


def _first_stop(text: str, stops: tuple[str, ...]) -> int | None:
    found = [at for at in (text.find(stop) for stop in stops) if at >= 0]
    return min(found) if found else None
