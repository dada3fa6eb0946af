"""The engine protocol: requests in, results out, in the same order. Stages know nothing else about where text comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from thinkrec.errors import ConfigError

# What an engine may or may not be able to do; a request that says nothing of it needs nothing of it.
Capability = Literal["schema", "regex", "choice", "n", "score_tokens", "adapter"]


@dataclass(frozen=True)
class GenParams:
    """How one request is decoded. Nothing is inherited from the model's own generation config, and nothing is penalised (D32)."""

    max_tokens: int
    temperature: float = 0.0  # 0 = greedy
    top_p: float = 1.0
    seed: int = 0  # of this request: its text does not depend on which requests share its batch
    n: int = 1  # answers to one request, each drawn by a seed of its own
    stop: tuple[str, ...] = ()  # the text ends before the first of these
    schema: str = ""  # JSON schema as text; bound strings by `pattern`, never by maxLength
    regex: str = ""
    choice: tuple[str, ...] = ()
    score_tokens: tuple[int, ...] = ()  # token ids whose log-probabilities as the first token of the answer are wanted

    def __post_init__(self) -> None:
        if bool(self.schema) + bool(self.regex) + bool(self.choice) > 1:
            raise ConfigError("a request has more than one of schema, regex and choice", "GenParams", "give one")
        if self.max_tokens < 1 or self.temperature < 0 or not 0 < self.top_p <= 1 or self.n < 1:
            raise ConfigError(
                f"decoding parameters out of range: {self}", "GenParams", "max_tokens, n >= 1; temperature >= 0; 0 < top_p <= 1"
            )
        if self.n > 1 and not self.temperature:
            raise ConfigError(f"{self.n} greedy answers are {self.n} times the same", "GenParams", "ask once, or raise the temperature")


@dataclass(frozen=True)
class GenRequest:
    """One prompt, as text or as token ids; `adapter` is a PEFT folder, never a mixture."""

    id: str
    prompt: str | tuple[int, ...]
    params: GenParams
    adapter: str = ""

    def needs(self) -> frozenset[Capability]:
        """The capabilities without which this request would be answered wrongly."""
        params = self.params
        asked: dict[Capability, bool] = {
            "schema": bool(params.schema),
            "regex": bool(params.regex),
            "choice": bool(params.choice),
            "n": params.n > 1,
            "score_tokens": bool(params.score_tokens),
            "adapter": bool(self.adapter),
        }
        return frozenset(name for name, needed in asked.items() if needed)


@dataclass(frozen=True)
class GenResult:
    """The answer to the request of the same id; `token_ids` leave out the end token, `error` says why there is no answer.

    `more` holds the other answers where n > 1 were asked for; `scores` the natural log-probabilities of `score_tokens`, in their order,
    before temperature and masks.
    """

    id: str
    text: str
    token_ids: tuple[int, ...] = field(default=(), repr=False)  # empty where a server tells none
    finish_reason: Literal["stop", "length", "error"] = "stop"
    error: str = ""
    num_tokens: int = 0  # generated, the end token left out where that is known
    more: tuple[GenResult, ...] = ()
    scores: tuple[float, ...] = ()


class EngineDied(Exception):
    """Raised by `generate` when the engine can answer nobody any more and must be opened again."""


class Engine(Protocol):
    """A source of text. `generate` keeps the order and answers every request, a bad one with finish_reason "error"."""

    @property
    def capabilities(self) -> frozenset[Capability]: ...

    def generate(self, requests: Sequence[GenRequest]) -> list[GenResult]: ...

    def close(self) -> None: ...


def check_capabilities(kind: str, capabilities: frozenset[Capability], requests: Sequence[GenRequest]) -> None:
    """Raises ConfigError at the first request that needs what the engine cannot do."""
    for request in requests:
        missing = sorted(request.needs() - capabilities)
        if missing:
            raise ConfigError(f"engine {kind!r} cannot do {', '.join(missing)}", f"request {request.id!r}", "choose another engine.kind")
