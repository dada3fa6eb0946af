"""Rows through an engine by Ray Data: each actor holds one engine, answers stream to parquet, and every row is accounted for.

Ray Data keeps no order, so rows carry ids. Blocks are cut beforehand and an actor takes a block at a time, so that the same rows share a
batch in every run.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from thinkrec.config import EngineSection
from thinkrec.errors import EnvironmentFault, StageFailed, ThinkrecError
from thinkrec.generate.choose import open_engine
from thinkrec.generate.engine import Engine
from thinkrec.job import Job
from thinkrec.store import open_root

Row = dict[str, Any]
Ask = Callable[[Engine, list[Row]], list[Row]]
BATCHES_PER_BLOCK = 4  # prompts are sorted by length within a block


def stream(job: Job, rows: pa.Table, ask: Ask, schema: pa.Schema, model: Callable[[], Path]) -> pa.Table:
    """`ask(engine, rows)` over all rows; the answers, sorted by their string column `id`, stay in `answers/` of the draft.

    `model()` is called in each actor and names its model folder. `ask` may give several answers to a row, but each row needs one at least.
    Raises StageFailed when rows got lost, EnvironmentFault when the cluster has too few CPUs.
    """
    import ray.data

    settings = job.config.engine
    use_gpu = job.config.train.use_gpu
    out = f"{job.draft.uri}/answers"
    if rows.num_rows:
        _check_cpus(settings)
        size = settings.batch_size * BATCHES_PER_BLOCK
        blocks = [rows.slice(start, size) for start in range(0, rows.num_rows, size)]
        answers = ray.data.from_arrow(blocks).map_batches(
            Asker,
            fn_constructor_kwargs={"settings": settings, "ask": ask, "schema": schema, "model": model},
            batch_size=None,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=settings.num_actors),
            num_cpus=1,
            num_gpus=1 if use_gpu else 0,
        )
        answers.context.raise_original_map_exception = True  # else our errors arrive as the text of Ray's own
        try:
            answers.write_parquet(out)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, ThinkrecError):
                raise error.cause from None
            raise StageFailed(f"the engine failed: {error.cause!r}", out, "run the same command again") from error
    return check_complete(rows, _read(out, schema), out)


class Asker:
    """The map: one engine, kept for the life of its actor."""

    def __init__(self, settings: EngineSection, ask: Ask, schema: pa.Schema, model: Callable[[], Path]) -> None:
        self._engine, self._ask, self._schema = open_engine(settings, model()), ask, schema

    def __call__(self, batch: pa.Table) -> pa.Table:
        return pa.Table.from_pylist(self._ask(self._engine, batch.to_pylist()), schema=self._schema)


def check_complete(asked: pa.Table, answers: pa.Table, where: str) -> pa.Table:
    """The answers by id; raises StageFailed unless they are about exactly the rows asked, and no answer (id, attempt) is there twice."""
    wanted, found = set(asked["id"].to_pylist()), set(answers["id"].to_pylist())
    if wanted != found or len(wanted) != asked.num_rows:
        missing, foreign = len(wanted - found), len(found - wanted)
        raise StageFailed(
            f"{missing} of {asked.num_rows} rows have no answer, {foreign} answers no row", where, "run the same command again"
        )
    keys = [name for name in ("id", "attempt") if name in answers.column_names]
    if answers.group_by(keys).aggregate([]).num_rows != answers.num_rows:
        raise StageFailed("an answer was written twice", where, "run the same command again")
    return answers.sort_by([(key, "ascending") for key in keys])


def write_table(job: Job, name: str, rows: list[Row], schema: pa.Schema) -> None:
    """Write one parquet file of the draft, folders made as needed."""
    path = job.draft.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, compression="zstd")


def _read(uri: str, schema: pa.Schema) -> pa.Table:
    system, path = open_root(uri)
    if system.get_file_info(path).type == fs.FileType.NotFound:
        return schema.empty_table()
    return pq.read_table(path, filesystem=system, schema=schema)


def _check_cpus(settings: EngineSection) -> None:
    """Ray would wait in silence for the CPU that its own reader or writer needs beside the actors."""
    import ray

    total = int(ray.cluster_resources().get("CPU", 0))
    if settings.num_actors >= total:
        raise EnvironmentFault(
            f"{settings.num_actors} engine actors leave none of the cluster's {total} CPUs to Ray Data",
            "engine.num_actors",
            "lower it, or raise ray.num_cpus (logical CPUs may exceed the cores)",
        )
