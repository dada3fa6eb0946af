"""The `vllm` engine: vLLM inside an actor of stream.py, for dialogues of several rounds and whatever ray.data.llm does not carry: finish
reasons, several answers to a request, scores of tokens.

Calls of `generate` from several threads share one batch: as one answer ends the next request takes its slot, whichever call it is of. vLLM
runs in processes of its own; when they die the engine says so and is opened again. Adapters are told apart by the hash of their files,
since vLLM compares them by name alone and would keep old weights under a known one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from thinkrec.config.generation import VllmSection
from thinkrec.errors import ConfigError, EnvironmentFault
from thinkrec.generate.engines import peft_folder
from thinkrec.generate.engines.prompt_encoder import Reader
from thinkrec.generate.engines.protocol import Capability, EngineDied, GenRequest, GenResult, check_capabilities

if TYPE_CHECKING:
    from vllm import AsyncLLMEngine, CompletionOutput, RequestOutput
    from vllm.lora.request import LoRARequest

GIB = 2**30
CPU_CACHE_GIB = 1.0
WITHOUT: frozenset[Capability] = frozenset({"schema", "regex", "choice", "n", "score_tokens"})
WITH_ADAPTERS: frozenset[Capability] = WITHOUT | {"adapter"}
Made = TypeVar("Made")
INSTALL = "install it on every node: pip install 'thinkrec[gpu]'; for a machine without a GPU see make test-vllm"


class VllmEngine:
    """A model folder in vLLM, on the GPUs that are visible, else the CPU."""

    def __init__(self, folder: str | Path, settings: VllmSection) -> None:
        check_installed()
        from vllm.platforms import current_platform

        self._settings, self._on_cpu = settings, bool(current_platform.is_cpu())
        self._loop = asyncio.new_event_loop()
        Thread(target=self._loop.run_forever, daemon=True).start()
        try:
            self._llm = self._do(self._start(str(folder)))
        except ValueError as error:
            raise ConfigError(f"vLLM refuses the model or its settings: {error}", str(folder), "fix engine.vllm, or the folder") from None
        except (RuntimeError, OSError) as error:
            fix = "look at the actor's log; engine.vllm.max_model_len, kv_cache_gib and gpu_memory_utilization decide about the memory"
            raise EnvironmentFault(f"vLLM did not start: {error}", str(folder), fix) from error
        self._reader = Reader.of(folder, int(self._llm.model_config.max_model_len))
        self._adapters: dict[str, LoRARequest] = {}  # by the hash of their files

    @property
    def capabilities(self) -> frozenset[Capability]:
        return WITH_ADAPTERS if self._settings.max_loras else WITHOUT

    def generate(self, requests: Sequence[GenRequest]) -> list[GenResult]:
        """One result for each request, in order. Raises EngineDied when vLLM's process is gone."""
        from vllm.exceptions import VLLMError
        from vllm.v1.engine.exceptions import EngineDeadError

        check_capabilities("vllm", self.capabilities, requests)
        prompts, results = self._reader.read(requests)
        try:
            answers = self._do(self._answers([(requests[at], prompt) for at, prompt in prompts.items()]))
        except (EngineDeadError, CancelledError) as error:  # the latter if another thread was first to see it, and closed the engine
            raise EngineDied(str(error)) from error
        except VLLMError as error:
            raise RuntimeError(str(error)) from error  # their base is Exception, which nobody should catch
        results |= dict(zip(prompts, answers, strict=True))
        return [results[at] for at in range(len(requests))]

    def close(self) -> None:
        """End vLLM's processes. The loop stays: a thread that was about to ask must hear that the engine is gone, not wait for ever."""
        self._llm.shutdown()
        self._do(_cancel_all())

    def _do(self, work: Coroutine[object, None, Made]) -> Made:
        """Have the engine's own thread do it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _start(self, folder: str) -> AsyncLLMEngine:
        from vllm import AsyncEngineArgs, AsyncLLMEngine

        backend = "mp" if self._settings.tensor_parallel_size > 1 else "uni"  # an actor holds its GPUs itself: no actors of vLLM's own
        told = arguments(self._settings, self._on_cpu)
        return AsyncLLMEngine.from_engine_args(
            AsyncEngineArgs(model=folder, distributed_executor_backend=backend, disable_log_stats=True, **told)
        )

    async def _answers(self, asked: Sequence[tuple[GenRequest, Sequence[int]]]) -> list[GenResult]:
        known = {folder: self._adapter(folder) for folder in {request.adapter for request, _ in asked}}
        return await asyncio.gather(*(self._answer(request, prompt, known) for request, prompt in asked))

    async def _answer(self, request: GenRequest, prompt: Sequence[int], known: Mapping[str, LoRARequest | None]) -> GenResult:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        told = sampling(request, self._reader.limit(request, prompt))
        form = told.pop("structured_outputs", None)
        structured = StructuredOutputsParams(**form) if form else None
        params = SamplingParams(**told, structured_outputs=structured, output_kind=RequestOutputKind.FINAL_ONLY)
        name = uuid4().hex  # vLLM's: ids of ours may come twice at once, from two rounds or two shards
        outputs = self._llm.generate({"prompt_token_ids": prompt}, params, name, lora_request=known[request.adapter])
        return _result(request, [output async for output in outputs][-1])

    def _adapter(self, folder: str) -> LoRARequest | None:
        """vLLM's name of an adapter; raises ConfigError if the engine was not made for it."""
        from vllm.lora.request import LoRARequest

        if not folder:
            return None
        name = peft_folder.name_of(folder)
        if name not in self._adapters:
            rank, num_known = peft_folder.rank_of(folder), len(self._adapters)
            if rank > self._settings.max_lora_rank:
                raise ConfigError(f"the adapter has rank {rank}", folder, f"raise engine.vllm.max_lora_rank to {rank} or more")
            if self._on_cpu and num_known == self._settings.max_loras:
                raise ConfigError(
                    f"on a CPU one engine takes {num_known} adapters and no more", folder, "raise engine.vllm.max_loras"
                )  # see arguments()
            self._adapters[name] = LoRARequest(name, num_known + 1, str(folder))
        return self._adapters[name]


async def _cancel_all() -> None:
    """End what vLLM left running in this loop."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


def check_installed() -> None:
    """Raises EnvironmentFault where vLLM is not."""
    if find_spec("vllm") is None:
        raise EnvironmentFault("vLLM is not installed", 'engine.kind = "vllm"', INSTALL)


def arguments(settings: VllmSection, on_cpu: bool) -> dict[str, object]:
    """How vLLM is started, whoever starts it."""
    taken = {"tensor_parallel_size", "dtype", "kv_cache_dtype", "gpu_memory_utilization", "enable_prefix_caching", "enforce_eager"}
    found: dict[str, object] = settings.model_dump(include=taken)
    found |= {name: getattr(settings, name) for name in ("max_model_len", "max_num_seqs") if getattr(settings, name)}
    if cache_gib := settings.kv_cache_gib or CPU_CACHE_GIB * on_cpu:
        found["kv_cache_memory_bytes"] = int(cache_gib * GIB)
    if settings.max_loras:
        # vLLM's CPU kernels answer rows without an adapter by the last slot's, so that one has to stay empty (vllm-project/vllm#48421).
        found |= {"enable_lora": True, "max_loras": settings.max_loras + on_cpu, "max_lora_rank": settings.max_lora_rank}
    return found | {
        "load_format": "safetensors",  # never a pickle
        "trust_remote_code": False,
        "generation_config": "vllm",  # of the folder's own only the end tokens
        # Asked for with a request the second is ignored, and models may then write blanks until they are cut short.
        "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
    }


def sampling(request: GenRequest, limit: int) -> dict[str, Any]:
    """A request as vLLM's SamplingParams take it, the form of the answer as a table of its own; nothing is left to a default."""
    params = request.params
    told: dict[str, Any] = {name: getattr(params, name) for name in ("temperature", "top_p", "seed", "n")}
    told |= {"max_tokens": limit, "stop": list(params.stop)}
    form = {"json": params.schema, "regex": params.regex, "choice": list(params.choice)}
    if wanted := {name: value for name, value in form.items() if value}:
        told["structured_outputs"] = wanted
    if params.score_tokens:
        told["logprob_token_ids"] = list(params.score_tokens)
    return told


def _result(request: GenRequest, output: RequestOutput) -> GenResult:
    first, *others = (_told(request, one) for one in output.outputs)
    return replace(first, more=tuple(others))


def _told(request: GenRequest, one: CompletionOutput) -> GenResult:
    """One of vLLM's answers as ours: it counts the end token among the others, and calls none but a stop text by name."""
    if one.finish_reason not in ("stop", "length"):
        return GenResult(request.id, "", finish_reason="error", error=f"vLLM ended the answer with {one.finish_reason!r}")
    ids = tuple(one.token_ids)
    if one.finish_reason == "stop" and not isinstance(one.stop_reason, str):
        ids = ids[:-1]
    scores = tuple(one.logprobs[0][token].logprob for token in request.params.score_tokens)
    return GenResult(request.id, one.text, ids, one.finish_reason, num_tokens=len(ids), scores=scores)
