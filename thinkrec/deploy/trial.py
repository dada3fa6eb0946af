"""The trial of `preflight`: the run's own settings on the real workers, over a made-up log and a base of two layers.

Whether dtypes, devices and ZeRO stages meet shows in the first step of each phase, and in a run that is hours from its start for the last
of them. So all phases take three steps here through the very functions that will train them, are saved and resumed on the way, and what
they learned scores and explains a row.
"""

from __future__ import annotations

import math
import uuid
from dataclasses import asdict, dataclass

import polars as pl

from thinkrec.artefacts.adapters import LOG_FILE, copy_expert
from thinkrec.artefacts.scores import read_bucket_scores
from thinkrec.config.run import Config, parse
from thinkrec.deploy.trial_inputs import KEY, NUM_CLUSTERS, write_inputs
from thinkrec.distributed.worker_group import Worker
from thinkrec.prompt.catalogue import ArtefactPaths
from thinkrec.store.address import open_root, read_json, write_json
from thinkrec.store.artefacts import Store, writable

NUM_STEPS = 3


@dataclass(frozen=True)
class Tried:
    """What came of a trial: the loss of each step by phase, the scores of the test rows, and what was said about one of them."""

    losses: dict[str, list[float]]
    scores: list[float]
    text: str

    @property
    def num_tied(self) -> int:
        """Rows whose score another row has, too."""
        return len(self.scores) - len(set(self.scores))


@dataclass(frozen=True)
class TrialTask:
    """The small run, the made-up inputs and the places for what it trains, and the file for what came of it (Tried)."""

    config: Config
    places: ArtefactPaths
    root: str
    found: str


def shrunk(config: Config) -> Config:
    """The run with three steps a phase of two micro batches of a row (or a run), all that decides how they are computed left as it is."""
    train, loss = config.train, config.train.loss
    run_length = loss.rows_per_user if loss.rank > 0 else 1
    phase = {
        "max_steps": NUM_STEPS,
        "num_epochs": 99.0,
        "batch_size": 2 * run_length * math.lcm(train.num_workers, max(1, train.workers_per_group)),
    }
    return parse(
        config.model_dump()
        | {
            "data": config.data.model_dump() | {"num_buckets": 1},
            "traces": config.traces.model_dump() | {"enabled": True, "start_share": 1.0},
            "adapter": config.adapter.model_dump() | {"last_layers": min(1, config.adapter.last_layers)},
            "train": train.model_dump()
            | {name: getattr(train, name).model_dump() | phase for name in ("global_adapter", "projector", "experts")}
            | {"micro_batch_tokens": 1},
            "prompt": config.prompt.model_dump() | {"max_answer_tokens": min(8, config.prompt.max_answer_tokens)},
        }
    )


def try_out(config: Config, root: str) -> Tried:
    """The trial on the connected cluster, in a folder below `root` that is removed again; raises what the run would have raised."""
    from thinkrec.distributed.worker_group import run_on_workers

    small, store, train = shrunk(config), Store(f"{root}/trial-{uuid.uuid4().hex}"), config.train
    found = f"{store.root}/found.json"
    try:
        task = TrialTask(small, ArtefactPaths(write_inputs(small, store)), store.root, found)
        run_on_workers(try_phases, task, name="trial", root=store.root, num_workers=train.num_workers, use_gpu=train.use_gpu)
        return Tried(**(read_json(found) or {}))
    finally:
        system, path = open_root(store.root)
        system.delete_dir(path)


def try_phases(worker: Worker, task: TrialTask) -> None:
    """The train function of one worker: all phases, then scored rows and an explained one; rank 0 writes what came of it (Tried)."""
    import torch

    from thinkrec.score.bucket import BucketScorer
    from thinkrec.score.explain import explain_rows
    from thinkrec.train.fleet.group import STAGE

    config, places = task.config, task.places
    _train_alone(worker, task)
    keys = _train_experts(worker, task)
    if worker.leads:
        logs = {name: places.path(name, LOG_FILE) for name in ("global", *["projector"] * (config.prompt.slots != "none"))}
        with writable(places.uris["experts"]) as folder:
            for expert, key in keys.items():
                found = Store(task.root).find(STAGE, key)
                assert found is not None
                logs[f"expert {expert}"] = found.path(LOG_FILE)
                copy_expert(found.path(), folder, expert)
        BucketScorer(config, places, task.root)(0)
        rows = read_bucket_scores(task.root, "fusion", 0).to_pylist()
        explained, _ = explain_rows(config, places, rows[:1])
        losses = {name: pl.read_ndjson(log)["loss"].to_list() for name, log in logs.items()}
        write_json(task.found, asdict(Tried(losses, [row["score"] for row in rows], explained[0]["text"])))
    if worker.world_size > 1:
        torch.distributed.barrier()


def _train_alone(worker: Worker, task: TrialTask) -> None:
    """The phases that train one thing: the global adapter in two parts, the second from the state that the first left."""
    from thinkrec.train.global_adapter import train_global
    from thinkrec.train.global_first import train_first_epoch
    from thinkrec.train.projector import train_projector
    from thinkrec.train.trainer import PhaseTask

    functions = {"global-first": train_first_epoch, "global": train_global}
    for name, function in (functions | ({"projector": train_projector} if task.config.prompt.slots != "none" else {})).items():
        function(worker, PhaseTask(task.config, task.places, task.places.uris[name], task.root, name))


def _train_experts(worker: Worker, task: TrialTask) -> dict[int, str]:
    """Two experts in one pack; returns the keys under which they are committed."""
    from thinkrec.train.fleet.group import Group, GroupTask
    from thinkrec.train.fleet.queue import Pack

    keys = {expert: f"{KEY}{expert}" for expert in range(NUM_CLUSTERS)}
    group_task = GroupTask(task.config, task.places, task.root, number=0, keys=keys, num_slots=NUM_CLUSTERS)
    group = Group.load(worker, group_task, lambda event: None)
    group.train(Pack(tuple(keys), (1.0,) * NUM_CLUSTERS))
    return keys
