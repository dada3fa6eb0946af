"""The route through ray.data.llm, for asks that put each row once: rows of many shards meet in vLLM's queue, so no engine waits for the
longest answer of a shard. Each shard is committed to the ledger as soon as its last row is there.

Ray Data asks again, once, what a dead engine had in hand. What dies then, too, is left to the actors of stream.py, whose guard finds the
row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from thinkrec.config import EngineSection
from thinkrec.generate.engine import GenResult
from thinkrec.generate.guard import check_share
from thinkrec.generate.ledger import Ledger
from thinkrec.generate.prompts import Reader
from thinkrec.generate.stream import OnePass, Row, batches
from thinkrec.generate.vllm import arguments, sampling

ERROR = "__inference_error__"  # Ray's column: rows that bring one pass by the engine
CONCURRENT_BATCHES = 8  # of one engine, Ray's own number
SMALL = 0.25  # CPUs of a step that only reads or writes


def run(settings: EngineSection, use_gpu: bool, ledger: Ledger, shards: Sequence[str], ask: OnePass, folder: str) -> list[str]:
    """Answer and commit these shards by the model `folder`, which lies on every node; returns those that the engines died over."""
    import ray.data

    questions = ray.data.from_items([{"shard": name} for name in shards], override_num_blocks=len(shards)).map_batches(
        Questions,
        fn_constructor_kwargs={"ledger": ledger, "ask": ask, "folder": folder, "max_tokens": settings.vllm.max_model_len},
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=1),
        num_cpus=SMALL,
    )
    gathering = Gathering(ledger, ask, settings.max_error_share)
    try:
        for batch in batches(_processor(settings, use_gpu, folder)(questions), ledger):
            gathering.take(batch.to_pylist())
    except ray.exceptions.RayActorError:
        return [name for name in shards if not ledger.has(name)]
    return []


def _processor(settings: EngineSection, use_gpu: bool, folder: str) -> Any:
    from ray.data.llm import build_processor, vLLMEngineProcessorConfig

    waiting = -(-settings.vllm.max_num_seqs // settings.batch_size)
    config = vLLMEngineProcessorConfig(
        model_source=folder,
        engine_kwargs=arguments(settings.vllm, on_cpu=not use_gpu),
        concurrency=(settings.num_actors, settings.num_actors),
        batch_size=settings.batch_size,
        max_concurrent_batches=max(CONCURRENT_BATCHES, waiting + 1),
        should_continue_on_error=True,
        chat_template_stage=False,
        tokenize_stage=False,
        detokenize_stage=False,
        # Without this Ray asks for a GPU, and on a cluster that has none waits for it in silence.
        placement_group_config=None if use_gpu else {"bundle_per_worker": {"CPU": 1}},
    )
    small = {"num_cpus": SMALL}
    processor = build_processor(config, postprocess=_told, preprocess_map_kwargs=small, postprocess_map_kwargs=small)
    # Else a row that kills its engine would kill one after the other for ever.
    processor.get_stage_by_name("vLLMEngineStage").map_batches_kwargs["max_task_retries"] = 1
    return processor


class Questions:
    """The map before the engine: names of shards in, their rows as vLLM takes them out."""

    def __init__(self, ledger: Ledger, ask: OnePass, folder: str, max_tokens: int) -> None:
        self._ledger, self._ask, self._reader = ledger, ask, Reader.of(folder, max_tokens)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[Any]]:
        told = [row for name in batch["shard"] for row in self._rows(str(name))]
        return {name: [row[name] for row in told] for name in told[0]}

    def _rows(self, name: str) -> list[Row]:
        rows = self._ledger.asked(name).drop_columns(["key"]).to_pylist()
        requests = [self._ask.request(row) for row in rows]
        prompts, refused = self._reader.read(requests)
        told = []
        for at, request in enumerate(requests):
            prompt, error = prompts.get(at, []), refused[at].error if at in refused else ""
            limit = self._reader.limit(request, prompt)
            row = {"shard": name, "num_rows": len(rows), "id": request.id, "limit": limit, "end_ids": sorted(self._reader.end_ids)}
            told.append(row | {"tokenized_prompt": prompt, "sampling_params": sampling(request, limit), ERROR: error})
        return told


class Gathering:
    """The answers of shards that are not whole yet; they come in any order."""

    def __init__(self, ledger: Ledger, ask: OnePass, max_error_share: float) -> None:
        self._ledger, self._ask, self._max_error_share = ledger, ask, max_error_share
        self._answers: dict[str, dict[str, GenResult]] = {}

    def take(self, told: Sequence[Row]) -> None:
        """Add answers; commit each shard that has its last one now. Raises StageFailed when too many rows of a shard went wrong."""
        for row in told:
            answers = self._answers.setdefault(row["shard"], {})
            answers[row["id"]] = read(row)
            if len(answers) == row["num_rows"]:
                self._commit(row["shard"], list(self._answers.pop(row["shard"]).values()))

    def _commit(self, name: str, results: list[GenResult]) -> None:
        errors = [result.error for result in results if result.finish_reason == "error"]
        check_share(errors, len(results), self._max_error_share)
        table = pa.Table.from_pylist([self._ask.answer(result) for result in results], schema=self._ledger.schema)
        self._ledger.commit(name, self._ledger.asked(name), table, {"num_errors": len(errors)})


def _told(row: Row) -> Row:
    """What travels on of an answered row; a row with an error travels whole."""
    kept = ("shard", "num_rows", "id", "limit", "end_ids", "generated_text", "generated_tokens")
    return {name: row[name] for name in kept}


def read(row: Row) -> GenResult:
    """A row from Ray as a result. Ray keeps back why an answer ended: one that fills its limit was cut, unless its last token ends it."""
    if row[ERROR]:
        return GenResult(row["id"], "", finish_reason="error", error=row[ERROR])
    ids = tuple(row["generated_tokens"])
    ended = bool(ids) and ids[-1] in row["end_ids"]
    ids = ids[:-1] if ended else ids
    return GenResult(row["id"], row["generated_text"], ids, "stop" if ended or len(ids) < row["limit"] else "length", num_tokens=len(ids))
