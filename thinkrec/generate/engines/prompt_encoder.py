"""How the engines that hold a model themselves read requests: text to token ids, and what no model can answer told beforehand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from thinkrec.generate.engines.protocol import GenRequest, GenResult
from thinkrec.model.base import load_config
from thinkrec.prompt.tokenizer import Tokenizer, load_tokenizer


@dataclass(frozen=True)
class Reader:
    """The tokenizer and the limits of one model."""

    tokenizer: Tokenizer
    max_tokens: int  # of prompt and answer together
    num_embeddings: int
    end_ids: frozenset[int]  # the tokens that end an answer

    @classmethod
    def of(cls, folder: str | Path, max_tokens: int = 0) -> Reader:
        """That of a model folder; `max_tokens`, if given, keeps it shorter than the model allows."""
        from transformers import GenerationConfig

        config = load_config(folder).get_text_config()
        try:
            own = GenerationConfig.from_pretrained(str(folder), local_files_only=True).eos_token_id
        except OSError:  # the folder has none
            own = config.eos_token_id
        tokenizer, most = load_tokenizer(folder), int(config.max_position_embeddings)
        end_ids = {tokenizer.eos_token_id, *(own if isinstance(own, list) else [own])} - {None}
        return cls(tokenizer, min(max_tokens or most, most), int(config.vocab_size), frozenset(end_ids))

    def read(self, requests: Sequence[GenRequest]) -> tuple[dict[int, list[int]], dict[int, GenResult]]:
        """By place: the prompts that can be answered, as token ids, and what is to be said to all other requests."""
        prompts, refused = {}, {}
        for at, request in enumerate(requests):
            ids = self._ids(request)
            if why := self._problem(ids):
                refused[at] = GenResult(request.id, "", finish_reason="error", error=why)
            else:
                prompts[at] = ids
        return prompts, refused

    def limit(self, request: GenRequest, prompt: Sequence[int]) -> int:
        """How many tokens the answer may have."""
        return min(request.params.max_tokens, self.max_tokens - len(prompt))

    def _ids(self, request: GenRequest) -> list[int]:
        """A request says all of its prompt: nothing is added."""
        if isinstance(request.prompt, str):
            return list(self.tokenizer.encode(request.prompt, add_special_tokens=False))
        return list(request.prompt)

    def _problem(self, prompt: Sequence[int]) -> str:
        if not prompt:
            return "the prompt is empty"
        if len(prompt) >= self.max_tokens:
            return f"the prompt has {len(prompt)} tokens, the model takes {self.max_tokens} with the answer"
        if not 0 <= min(prompt) <= max(prompt) < self.num_embeddings:
            return f"a token id is outside the model's {self.num_embeddings}"
        return ""


def first_stop(text: str, stops: Iterable[str]) -> int | None:
    """Where the first of these texts begins, if any is there."""
    found = [at for at in (text.find(stop) for stop in stops) if at >= 0]
    return min(found, default=None)
