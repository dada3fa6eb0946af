"""Training adapter or projector parameters of a recommender: what the global, projector and expert phases share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from thinkrec.artefacts.adapters import LOG_FILE
from thinkrec.config.run import Config
from thinkrec.config.training import PhaseSection
from thinkrec.distributed.stopping import heed
from thinkrec.distributed.watchdog import Watchdog
from thinkrec.distributed.worker_group import run_on_workers
from thinkrec.job import Job
from thinkrec.model.recommender import Recommender
from thinkrec.prompt.catalogue import ArtefactPaths, PromptData
from thinkrec.store.address import read_json, write_json
from thinkrec.store.artefacts import writable
from thinkrec.train import loop
from thinkrec.train.checkpoint import Checkpoints
from thinkrec.train.deepspeed import engine
from thinkrec.train.instances import Instances, load_traces, mixed_batches, train_positions
from thinkrec.train.order import Order
from thinkrec.train.probe import Probe

Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Task:
    """What one slot of the bank learns: from which rows, by which schedule; `log` is for rank 0 alone."""

    instances: Instances
    phase: PhaseSection
    checkpoints: Checkpoints
    log: Path | None
    pauses: bool = False  # after the first epoch, or before the last step if that comes first

    @cached_property
    def order(self) -> Order:
        return self.instances.order(self.phase.batch_size, self.instances.config.run.seed)

    @property
    def num_steps(self) -> int:
        return self.order.num_steps(self.phase.num_epochs, self.phase.max_steps)

    @property
    def pause(self) -> int | None:
        return min(self.order.epoch_steps, self.num_steps - 1) if self.pauses else None


class AdapterTrainer:
    """One DeepSpeed engine over one loaded base, for as many tasks at once as the bank has slots; pack after pack goes through it."""

    def __init__(
        self,
        config: Config,
        recommender: Recommender,
        parameters: Iterable[nn.Parameter],
        weight_decay: float,
        num_slots: int = 1,
        watchdog: Watchdog = Watchdog(),  # noqa: B008 - it is frozen
    ) -> None:
        self.config, self.num_slots, self.watchdog = config, num_slots, watchdog
        self.world, self.rank = torch.distributed.get_world_size(), torch.distributed.get_rank()
        trained = list(parameters)
        chosen = set(map(id, trained))
        # Every slot holds the same weights now: those every task starts from.
        first = slice(1) if num_slots > 1 else slice(None)
        self.start = loop.fresh({name: one.detach()[first].clone() for name, one in recommender.named_parameters() if id(one) in chosen})
        settings = engine.read_config(config.train.ds_config)
        self.engine = engine.initialise(recommender, trained, settings, config.train.micro_batch_size, weight_decay, num_slots)

    def train(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Weights, int]]:
        """Train all tasks side by side, each as it would be alone; yields (number of the task, weights, steps) of what ended or paused.

        For when, see loop.run. Weights come to the host of rank 0; other ranks get none.
        """
        learners = [_learner(task) for task in tasks]
        loss, members = self.config.train.loss, [task.instances for task in tasks]
        run_length = loss.rows_per_user if loss.rank > 0 else 1

        sizes = [task.phase.batch_size // self.world for task in tasks]  # rows of each task's batch that are this rank's

        def rows_of(slot: int, step: int) -> tuple[NDArray[Any], ...]:
            """Slot, number and weight of each row: a task's loss is the mean over its own batch."""
            size = sizes[slot]
            numbers = tasks[slot].order.batch(step)[self.rank * size :][:size]
            return np.full(size, slot), numbers, np.full(size, 1 / size, np.float32)

        def feed(steps: Sequence[int | None]) -> Iterator[tuple[Any, ...]]:
            active = [rows_of(slot, step) for slot, step in enumerate(steps) if step is not None]
            slots, numbers, weight = (np.concatenate(parts) for parts in zip(*active, strict=True))
            for batch in mixed_batches(members, slots, numbers, weight, self.config.train.micro_batch_size, run_length):
                yield batch.to(self.engine.device), loss.rank, run_length

        with self.watchdog.watch(self.rank) as beat, heed() as notice:
            ended = loop.run(
                self.engine,
                learners,
                feed,
                self.start,
                num_slots=self.num_slots,
                seed=self.config.run.seed,
                checkpoint_every=self.config.train.checkpoint_every,
                beat=beat,
                notice=notice,
            )
            for slot, state in ended:
                yield slot, {name: parts[0] for name, parts in state.items()}, learners[slot].num_steps


def fit_phase(job: Job, function: Callable[[dict[str, Any]], None], name: str, num_first: int | None = None, pauses: bool = False) -> None:
    """Run the train function of a phase that trains one thing on `train.num_workers` workers; its figures go into the draft.

    `num_first`: see Order. With `pauses` it ends with a checkpoint after the first epoch, from which the next call goes on.
    """
    train = job.config.train
    run_on_workers(
        function,
        {
            "config": job.config.model_dump(),
            "places": job.places(),
            "out": job.draft.uri,
            "root": job.store.root,
            "name": f"{name}-{job.key}",
            "num_first": num_first,
            "pauses": pauses,
        },
        name=name,
        root=job.store.root,
        num_workers=train.num_workers,
        use_gpu=train.use_gpu,
        faults=job.config.faults,
    )
    job.draft.figures.update(read_json(f"{job.draft.uri}/figures.json") or {})


def train_phase(
    settings: Mapping[str, Any],
    config: Config,
    tables: PromptData,
    recommender: Recommender,
    parameters: Iterable[nn.Parameter],
    phase: PhaseSection,
    export: Callable[[Path, Weights, Probe], None],
) -> None:
    """Train one thing on all train rows and traces, let `export` write it, and add the log and the figures.

    Every rank calls `export`, so that it may ask the engine; only rank 0 has weights to write.
    """
    trainer = AdapterTrainer(config, recommender, parameters, phase.weight_decay, watchdog=Watchdog(*settings["watchdog"]))
    traces, pauses = load_traces(config, ArtefactPaths(settings["places"]), tables), settings["pauses"]
    instances = Instances(config, tables, train_positions(tables), traces, settings["num_first"])
    checkpoints, leads = checkpoints_of(config, settings["root"], settings["name"]), trainer.rank == 0
    with writable(settings["out"]) as target:
        task = Task(instances, phase, checkpoints, target / LOG_FILE if leads else None, pauses)
        ended = list(trainer.train([task]))  # nothing, if it was resumed where it pauses
        if not pauses:
            [(_, weights, num_steps)] = ended
            export(target, weights, Probe(trainer.engine, instances))
            if leads:
                figures = {"num_steps": num_steps, "num_rows": len(instances.positions), "num_traces": len(instances.traces)}
                write_json(f"{target}/figures.json", figures)
    if leads and not pauses:
        checkpoints.clear()


def checkpoints_of(config: Config, root: str, name: str) -> Checkpoints:
    """The checkpoints of one training run, as the run file wants them kept."""
    return Checkpoints(root, name, config.train.num_checkpoints, config.faults.storage_wait_s)


def _learner(task: Task) -> loop.Learner:
    phase, num_steps = task.phase, task.num_steps
    return loop.Learner(num_steps, phase.lr, task.checkpoints, task.log, phase.min_lr, round(phase.warmup_share * num_steps), task.pause)
