"""Rows through an engine by Ray Data: each actor holds one engine, takes shards, and commits each to the ledger itself.

What travels through Ray is the names of shards; rows and answers lie in the ledger. So a driver or an actor may be killed at any moment:
what is lost is the shards that were being answered, and the next actor, or the next run, takes them up again. An actor answers several
shards side by side where its engine can: the long answers of one would else leave the engine's other slots idle. Where vLLM answers an ask
of one pass, vllm_batch.py goes first.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from threading import Lock

import pyarrow as pa

from thinkrec.config.generation import EngineSection
from thinkrec.distributed.placement import await_room
from thinkrec.distributed.raised import blocks
from thinkrec.events import GenerationStarted, Warned
from thinkrec.generate.engines.protocol import Engine, EngineDied
from thinkrec.generate.rows import vllm_batch
from thinkrec.generate.rows.capacity import check_room
from thinkrec.generate.rows.guard import Guard
from thinkrec.generate.rows.ledger import Ledger
from thinkrec.generate.rows.slots import Turns
from thinkrec.generate.rows.task import Ask, OnePass, Open, Row
from thinkrec.job import Job
from thinkrec.store.artefacts import digest


def stream(
    job: Job, name: str, recipe: Mapping[str, object], rows: pa.Table, ask: Ask, schema: pa.Schema, open_engine: Open, folder: str = ""
) -> pa.Table:
    """`ask(engine, rows)` over all rows that the ledger does not know yet; the answers to all, in no order.

    `recipe` says what decides an answer beside row and engine: of another recipe nothing is reused. `open_engine()` is called in each
    actor. `ask` may give several answers (id, attempt) to a row, but each row needs one at least. `folder` is that of the model, if it lies
    on every node: vLLM then answers an ask of one pass through ray.data.llm. Raises StageFailed when rows got lost or too many went wrong,
    EnvironmentFault when the cluster has too few CPUs or GPUs.
    """
    settings = job.config.engine
    ledger = Ledger(job.store.place("ledger", f"{name}-{digest([settings.kind, settings.deciding, recipe])[:16]}"), schema)
    with ledger.deal(rows.to_batches(), rows.num_rows) as parts:
        shards, num_new = [], 0
        for missing in ledger.missing(parts, shard_rows(settings, rows.num_rows)):
            shards.append(ledger.ask(missing))
            num_new += missing.num_rows
        job.report(GenerationStarted(name, rows.num_rows, num_new, len(shards), ledger.uri))
        job.draft.figures.setdefault("num_generated", 0)
        job.draft.figures["num_generated"] += num_new
        use_gpu = job.config.train.use_gpu
        if shards and folder and settings.kind == "vllm" and isinstance(ask, OnePass):
            shards = vllm_batch.run(settings, use_gpu, ledger, shards, ask, folder)
            if shards:
                job.report(Warned(f"the engines of ray.data.llm died over {len(shards)} shards, which go to actors now"))
        if shards:
            _run(settings, use_gpu, ledger, shards, ask, open_engine)
        answers = pa.concat_tables([schema.empty_table(), *ledger.answers(parts)])
    ledger.sweep()
    return answers


def shard_rows(settings: EngineSection, num_rows: int) -> int:
    """Rows of a shard: few enough that every actor gets one."""
    return max(1, min(settings.shard_rows, -(-num_rows // settings.num_actors)))


def _run(settings: EngineSection, use_gpu: bool, ledger: Ledger, shards: list[str], ask: Ask, open_engine: Open) -> None:
    import ray.data

    check_room(settings, use_gpu)
    await_room("an engine", num_gpus=settings.num_gpus if use_gpu else 0)
    done = ray.data.from_items([{"shard": name} for name in shards], override_num_blocks=len(shards)).map_batches(
        Asker,
        fn_constructor_args=(ledger, ask, open_engine, settings.max_error_share, settings.num_shards_at_once),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(
            size=settings.num_actors,
            max_concurrent_calls_per_actor=settings.num_shards_at_once,
            enable_true_multi_threading=True,  # else the calls that an actor was given run one after the other
        ),
        num_cpus=1,
        num_gpus=settings.num_gpus if use_gpu else 0,
    )
    for _ in blocks(done, "the engine", ledger.uri):
        pass


class Asker:
    """The map: one engine, kept for the life of its actor; shards in, committed to the ledger, out. Calls may come from several threads."""

    def __init__(self, ledger: Ledger, ask: Ask, open_engine: Open, max_error_share: float, num_at_once: int = 1) -> None:
        self._ledger, self._ask, self._open, self._max_error_share = ledger, ask, open_engine, max_error_share
        self._engine: Engine | None = None
        self._turns, self._changing = Turns(num_at_once), Lock()

    def __call__(self, batch: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
        for name in batch["shard"]:
            self.answer(str(name))
        return {"shard": list(batch["shard"])}

    def answer(self, name: str) -> None:
        """Answer one shard and commit it; does nothing if somebody else has."""
        if self._ledger.has(name):
            return
        rows, begun = self._ledger.asked(name), time.monotonic()
        guard, answers = self._answered(name, rows.drop_columns(["key"]).to_pylist())
        guard.check(self._max_error_share)
        table = pa.Table.from_pylist(answers, schema=self._ledger.schema)
        self._ledger.commit(name, rows, table, {"num_errors": guard.num_errors, "wall_s": round(time.monotonic() - begun, 3)})

    def _answered(self, name: str, rows: list[Row]) -> tuple[Guard, list[Row]]:
        """The answers of a shard, however often an engine dies over it, and the guard that saw to that."""
        while True:
            # What killed one engine may kill the next: no other shard may be with it then, or it would be suspected, too.
            with self._turns.taken(alone=self._ledger.is_noted(name)):
                engine = self._opened()
                guard = Guard(engine, self._ledger.note(name))
                try:
                    return guard, self._ask(guard, rows)
                except EngineDied:
                    self._close(engine)

    def _opened(self) -> Engine:
        """The engine, opened with the first shard: of an error in a constructor Ray keeps the text alone."""
        with self._changing:
            self._engine = self._engine or self._open()
            return self._engine

    def _close(self, dead: Engine) -> None:
        """Close an engine that died, unless another thread was first."""
        with self._changing:
            if self._engine is dead:
                dead.close()
                self._engine = None
