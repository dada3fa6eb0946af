"""The `http` engine: any server that speaks OpenAI's completions or chat completions, hosted or one's own (vLLM, SGLang, llama.cpp).

A server may be slow, busy or wrong. What may pass by itself (429, 5xx, no answer, an answer that is none) is tried again with growing
pauses. What stays is the row's fault only while the server is well: otherwise the stage fails, and nothing is kept of the shard.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

import urllib3
from urllib3 import BaseHTTPResponse

from thinkrec.config.generation import HttpSection
from thinkrec.errors import ConfigError, EnvironmentFault, StageFailed
from thinkrec.generate.engines.protocol import Capability, GenRequest, GenResult, check_capabilities

BUSY, TIMED_OUT, KEY_REFUSED = 429, 408, (401, 403)
MAX_PAUSE_S = 60.0
MAX_SAID = 300  # characters of a server's own words that are repeated


class Passing(Exception):
    """A failure that may pass: worth another try, after the pause the server asked for. `is_row` says whether the row may be its cause."""

    def __init__(self, said: str, is_row: bool, pause_s: float = 0.0) -> None:
        super().__init__(said)
        self.is_row, self.pause_s = is_row, pause_s


class Refused(Exception):
    """The server will never answer this request."""


class HttpEngine:
    """A server at an address; calls of `generate` from several threads share its bounded number of connections and its rate."""

    capabilities: frozenset[Capability] = frozenset()

    def __init__(self, settings: HttpSection, model: str) -> None:
        self._settings, self._model = settings, model
        self._headers = {"Content-Type": "application/json", **_authorization(settings.key_variable)}
        self._connections = urllib3.PoolManager(maxsize=settings.num_parallel, block=True, timeout=settings.timeout_s, retries=False)
        self._threads = ThreadPoolExecutor(settings.num_parallel)
        self._pace = Pace(settings.requests_per_s)

    def generate(self, requests: Sequence[GenRequest]) -> list[GenResult]:
        """One result for each request, in order. Raises ConfigError, EnvironmentFault or StageFailed when the server answers nobody."""
        check_capabilities("http", self.capabilities, requests)
        futures = [self._threads.submit(self._answer, request) for request in requests]
        for future in wait(futures, return_when=FIRST_EXCEPTION).done:
            if error := future.exception():
                for other in futures:
                    other.cancel()
                raise error
        return [future.result() for future in futures]

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)
        self._connections.clear()

    def _answer(self, request: GenRequest) -> GenResult:
        chance = random.Random(request.id)
        for number in range(self._settings.max_tries):
            try:
                self._pace.wait()
                return self._ask(request)
            except Refused as refused:
                return GenResult(request.id, "", finish_reason="error", error=str(refused))
            except Passing as failure:
                last = failure
            if number + 1 < self._settings.max_tries:
                backoff_s = self._settings.backoff_s * 2**number * chance.uniform(0.5, 1.0)  # or all would come back at once
                time.sleep(min(MAX_PAUSE_S, max(last.pause_s, backoff_s)))
        said = f"{last} ({self._settings.max_tries} tries)"
        if last.is_row and self._is_well():
            return GenResult(request.id, "", finish_reason="error", error=said)
        raise StageFailed(
            f"the server answers no request: {said}",
            self._settings.url,
            "see to the server, or lower engine.http.requests_per_s or engine.http.num_parallel; then run the same command again",
        )

    def _ask(self, request: GenRequest) -> GenResult:
        chat, params = self._settings.chat, request.params
        if not isinstance(request.prompt, str) and chat:
            raise ConfigError("a chat server takes text, not token ids", f"request {request.id!r}", "set engine.http.chat = false")
        asked = {name: getattr(params, name) for name in ("max_tokens", "temperature", "top_p", "seed")} | {"model": self._model}
        asked |= {"stop": params.stop} if params.stop else {}
        asked |= {"messages": [{"role": "user", "content": request.prompt}]} if chat else {"prompt": request.prompt}
        response = self._send("POST", "/chat/completions" if chat else "/completions", json.dumps(asked))
        if response.status != 200:
            raise self._failure(response)
        try:
            answer = json.loads(response.data)
            choice = answer["choices"][0]
            text = choice["message"]["content"] if chat else choice["text"]
            finish, num_tokens = choice["finish_reason"], int((answer.get("usage") or {}).get("completion_tokens") or 0)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise Passing(f"the server's answer cannot be read: {type(error).__name__}: {error}", is_row=True) from None
        if not isinstance(text, str) or finish not in ("stop", "length"):
            raise Refused(f"the server stopped the answer with {str(finish)[:MAX_SAID]!r}")
        return GenResult(request.id, text, finish_reason=finish, num_tokens=num_tokens)

    def _failure(self, response: BaseHTTPResponse) -> Exception:
        """What a status other than 200 means."""
        status, said = response.status, bytes(response.data).decode("utf-8", "replace").strip()[:MAX_SAID]
        what, where = f"the server says {status}: {said}", self._settings.url
        if status in KEY_REFUSED:
            named = self._settings.key_variable or "engine.http.key_variable, which names none"
            return EnvironmentFault(f"the server refuses the key, {status}", where, f"fix {named}")
        if status == 404 or 300 <= status < 400:
            return ConfigError(
                what, where, "engine.http.url ends with /v1 as a rule; engine.http.model or the teacher's name must be served"
            )
        if status in (BUSY, TIMED_OUT) or status >= 500:
            asked_for = response.headers.get("Retry-After", "")
            return Passing(what, is_row=status != BUSY, pause_s=float(asked_for) if asked_for.isdigit() else 0.0)
        return Refused(what)

    def _send(self, method: str, path: str, body: str | None = None) -> BaseHTTPResponse:
        try:
            return self._connections.request(
                method, self._settings.url.rstrip("/") + path, body=body, headers=self._headers, redirect=False
            )
        except urllib3.exceptions.ReadTimeoutError:
            raise Passing(f"no answer within {self._settings.timeout_s:g} s", is_row=True) from None
        except urllib3.exceptions.HTTPError as error:
            raise Passing(f"the connection failed ({type(error).__name__})", is_row=True) from None

    def _is_well(self) -> bool:
        try:
            return bool(self._send("GET", "/models").status == 200)
        except Passing:
            return False


class Pace:
    """At most so many requests a second, one after the other, over all threads; 0 = no limit."""

    def __init__(self, requests_per_s: float) -> None:
        self._step_s, self._next, self._lock = 1 / requests_per_s if requests_per_s else 0.0, 0.0, threading.Lock()

    def wait(self) -> None:
        """Sleep until it is one's turn."""
        with self._lock:
            turn = max(self._next, time.monotonic())
            self._next = turn + self._step_s
        time.sleep(max(0.0, turn - time.monotonic()))


def _authorization(variable: str) -> dict[str, str]:
    """The header that carries the key; it is read where it is used and stored nowhere."""
    if not variable:
        return {}
    if not os.environ.get(variable):
        raise EnvironmentFault(f"the environment variable {variable} is not set here", "engine.http.key_variable", "set it on every node")
    return {"Authorization": f"Bearer {os.environ[variable]}"}
