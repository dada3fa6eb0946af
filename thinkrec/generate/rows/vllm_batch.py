"""The route through ray.data.llm, for asks that put each row once: rows of many shards meet in vLLM's queue, so no engine waits for the
longest answer of a shard. Each shard is committed to the ledger as soon as its last row is there.

Ray Data asks again, once, what a dead engine had in hand. What dies then, too, is left to the actors of stream.py, whose guard finds the
row.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pyarrow as pa

from thinkrec.config.generation import EngineSection
from thinkrec.distributed.placement import await_room
from thinkrec.distributed.raised import blocks
from thinkrec.generate.engines.prompt_encoder import Reader, first_stop
from thinkrec.generate.engines.protocol import GenResult
from thinkrec.generate.engines.vllm import arguments, sampling
from thinkrec.generate.rows.capacity import check_room
from thinkrec.generate.rows.guard import check_share
from thinkrec.generate.rows.ledger import Ledger
from thinkrec.generate.rows.task import OnePass, Row

if TYPE_CHECKING:
    from ray.data.llm import Processor

ERROR = "__inference_error__"  # Ray's column: rows that bring one pass by the engine
CONCURRENT_BATCHES = 8  # of one engine, Ray's own number
SMALL = 0.25  # CPUs of a step that only reads or writes
PACKED_ROWS = pa.schema(
    [
        ("shard", pa.string()),
        ("num_rows", pa.int32()),  # of the shard
        ("id", pa.string()),
        ("end_ids", pa.list_(pa.int32())),
        ("tokenized_prompt", pa.list_(pa.int32())),
        (ERROR, pa.string()),  # why nobody need ask
        ("sampling", pa.string()),  # JSON
    ]
)
ANSWERED = ("shard", "num_rows", "id", "text", "num_tokens", "finish_reason", ERROR)  # rows with an error bring all they had, and no text


def run(settings: EngineSection, use_gpu: bool, ledger: Ledger, shards: Sequence[str], ask: OnePass, folder: str) -> list[str]:
    """Answer and commit these shards by the model `folder`, which lies on every node; returns those that the engines died over."""
    import ray.data

    check_room(settings, use_gpu)
    await_room("an engine", num_gpus=settings.num_gpus if use_gpu else 0)
    questions = ray.data.from_items([{"shard": name} for name in shards], override_num_blocks=len(shards)).map_batches(
        Questions,
        fn_constructor_kwargs={"ledger": ledger, "ask": ask, "folder": folder, "max_tokens": settings.vllm.max_model_len},
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=1),
        num_cpus=SMALL,
    )
    gathering = Gathering(ledger, ask, settings.max_error_share)
    try:
        for batch in blocks(_processor(settings, use_gpu, folder)(questions), "the engine", ledger.uri):
            gathering.take(batch.select([name for name in ANSWERED if name in batch.column_names]).to_pylist())
    except ray.exceptions.RayActorError:
        return [name for name in shards if not ledger.has(name)]
    return []


def _processor(settings: EngineSection, use_gpu: bool, folder: str) -> Processor:
    from ray.data.llm import build_processor, vLLMEngineProcessorConfig

    waiting = -(-settings.vllm.max_num_seqs // settings.batch_size)
    config = vLLMEngineProcessorConfig(
        model_source=folder,
        engine_kwargs=arguments(settings.vllm, on_cpu=not use_gpu),
        concurrency=(settings.num_actors, settings.num_actors),
        batch_size=settings.batch_size,
        max_concurrent_batches=max(CONCURRENT_BATCHES, waiting + 1),
        should_continue_on_error=True,
        log_engine_metrics=find_spec("grpc_reflection") is not None,  # they go through Ray Serve, whose packages only ray[llm] brings
        chat_template_stage=False,
        tokenize_stage=False,
        detokenize_stage=False,
        # Without this Ray asks for a GPU, and on a cluster that has none waits for it in silence.
        placement_group_config=None if use_gpu else {"bundle_per_worker": {"CPU": 1}},
    )
    small = {"num_cpus": SMALL}
    processor = build_processor(config, unpacked, told, preprocess_map_kwargs=small, postprocess_map_kwargs=small)
    # Else a row that kills its engine would kill one after the other for ever.
    processor.get_stage_by_name("vLLMEngineStage").map_batches_kwargs["max_task_retries"] = 1
    return processor


class Questions:
    """The map before the engine: names of shards in, their rows out, ready for vLLM."""

    def __init__(self, ledger: Ledger, ask: OnePass, folder: str, max_tokens: int) -> None:
        self._ledger, self._ask, self._reader = ledger, ask, Reader.of(folder, max_tokens)

    def __call__(self, batch: Mapping[str, Sequence[str]]) -> pa.Table:
        return pa.Table.from_pylist([row for name in batch["shard"] for row in self._rows(str(name))], schema=PACKED_ROWS)

    def _rows(self, name: str) -> Iterator[Row]:
        rows = self._ledger.asked(name).drop_columns(["key"]).to_pylist()
        requests = [self._ask.request(row) for row in rows]
        prompts, refused = self._reader.read(requests)
        for at, request in enumerate(requests):
            prompt = prompts.get(at, [])
            row = {"shard": name, "num_rows": len(rows), "id": request.id, "end_ids": sorted(self._reader.end_ids)}
            row |= {"tokenized_prompt": prompt, ERROR: refused[at].error if at in refused else ""}
            told = sampling(request, self._reader.limit(request, prompt)) | {"include_stop_str_in_output": True}
            yield row | {"sampling": json.dumps(told)}


def unpacked(row: Row) -> Row:
    """Before the engine: the parameters as the table that Ray wants them to be."""
    return {"sampling_params": json.loads(row["sampling"])}


def told(row: Row) -> Row:
    """After the engine: what an answered row tells the ledger.

    Ray keeps back why an answer ended: one that fills its limit was cut, unless an end token is its last or it holds a stop text, which
    vLLM was asked to leave in for this.
    """
    num_tokens, asked = int(row["num_generated_tokens"]), json.loads(row["sampling"])
    ended = num_tokens > 0 and row["generated_tokens"][num_tokens - 1] in row["end_ids"]
    stop = first_stop(row["generated_text"], asked["stop"])
    is_whole = ended or stop is not None or num_tokens < asked["max_tokens"]
    kept = {name: row[name] for name in ("shard", "num_rows", "id")}
    return kept | {
        "text": row["generated_text"][:stop],
        "num_tokens": num_tokens - ended,
        "finish_reason": "stop" if is_whole else "length",
    }


class Gathering:
    """The answers of shards that are not whole yet; they come in any order."""

    def __init__(self, ledger: Ledger, ask: OnePass, max_error_share: float) -> None:
        self._ledger, self._ask, self._max_error_share = ledger, ask, max_error_share
        self._results: dict[str, dict[str, GenResult]] = {}

    def take(self, rows: Sequence[Row]) -> None:
        """Add answers; commit each shard that has its last one now. Raises StageFailed when too many rows of a shard went wrong."""
        for row in rows:
            results = self._results.setdefault(row["shard"], {})
            results[row["id"]] = _result(row)
            if len(results) == row["num_rows"]:
                self._commit(row["shard"], list(self._results.pop(row["shard"]).values()))

    def _commit(self, name: str, results: list[GenResult]) -> None:
        errors = [result.error for result in results if result.finish_reason == "error"]
        check_share(errors, len(results), self._max_error_share)
        table = pa.Table.from_pylist([self._ask.answer(result) for result in results], schema=self._ledger.schema)
        self._ledger.commit(name, self._ledger.asked(name), table, {"num_errors": len(errors)})


def _result(row: Row) -> GenResult:
    if row[ERROR]:
        return GenResult(row["id"], "", finish_reason="error", error=row[ERROR])
    return GenResult(row["id"], row["text"], finish_reason=row["finish_reason"], num_tokens=row["num_tokens"])
