"""Training adapter or projector parameters of a recommender: what the global, projector and expert phases share."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from thinkrec.artefacts.adapters import LOG_FILE
from thinkrec.config.run import Config
from thinkrec.config.training import PhaseSection
from thinkrec.distributed.stopping import heed
from thinkrec.distributed.worker_group import Worker, run_on_workers
from thinkrec.job import Job
from thinkrec.model.recommender import Recommender
from thinkrec.prompt.catalogue import ArtefactPaths
from thinkrec.store.address import read_json, write_json
from thinkrec.store.artefacts import writable
from thinkrec.train import loop
from thinkrec.train.checkpoint import STATE_FILE, Checkpoints, TrainState, read_state
from thinkrec.train.deepspeed import engine
from thinkrec.train.instances import Instances, TrainInputs, step_batches
from thinkrec.train.order import Order
from thinkrec.train.probe import Probe

Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class PhaseTask:
    """A phase that trains one thing, as its workers get it: its inputs, the address `out` of its draft, and the name of its checkpoints."""

    config: Config
    places: ArtefactPaths
    out: str
    root: str
    name: str


@dataclass(frozen=True)
class AdapterLearner:
    """An adapter or projector in training, in one slot: from which rows it learns, by which schedule; `log` is for rank 0 alone."""

    instances: Instances
    phase: PhaseSection
    checkpoints: Checkpoints
    log: Path | None
    first_epoch: bool = False  # ends after the first epoch, or before the last step if that comes first, with the rates of the whole phase
    begun: tuple[int, TrainState] | None = None  # step and state that it goes on from, if another training made them
    is_held: bool = False  # at the weights that it has begun with, by the trainer's `proximal`

    @cached_property
    def order(self) -> Order:
        return self.instances.order(self.phase.batch_size, self.instances.config.run.seed)

    @property
    def num_steps(self) -> int:
        return self.order.num_steps(self.phase.num_epochs, self.phase.max_steps)

    @property
    def learner(self) -> loop.Learner:
        """What the loop needs to know of it."""
        phase, num_steps = self.phase, self.num_steps
        return loop.Learner(
            num_steps=num_steps,
            lr=phase.lr,
            checkpoints=self.checkpoints,
            log=self.log,
            min_lr=phase.min_lr,
            warmup_steps=round(phase.warmup_share * num_steps),
            last_step=min(self.order.epoch_steps, num_steps - 1) if self.first_epoch else None,
            begun=self.begun,
            is_held=self.is_held,
        )


class AdapterTrainer:
    """One DeepSpeed engine over one loaded base, for as many learners at once as the bank has slots; pack after pack goes through it."""

    def __init__(
        self,
        worker: Worker,
        config: Config,
        recommender: Recommender,
        parameters: Iterable[nn.Parameter],
        weight_decay: float,
        num_slots: int = 1,
        proximal: float = 0.0,
    ) -> None:
        self.worker, self.config, self.num_slots = worker, config, num_slots
        trained = list(parameters)
        chosen = set(map(id, trained))
        # Every slot holds the same weights now: those every learner starts from.
        first = slice(1) if num_slots > 1 else slice(None)
        self.start = loop.fresh({name: one.detach()[first].clone() for name, one in recommender.named_parameters() if id(one) in chosen})
        settings = engine.read_config(config.train.ds_config)
        self.engine = engine.initialise(recommender, trained, settings, weight_decay, num_slots, proximal)

    def train(self, adapters: Sequence[AdapterLearner]) -> Iterator[tuple[int, TrainState, int]]:
        """Train all of them side by side, the i-th in slot i; yields (slot, state, its step) of what ended.

        For when, see loop.run. States come to the host of rank 0; other ranks get none. Each becomes what it would be alone, but for
        `adapter.dropout`: which numbers are dropped in a row depends on the rows beside it.
        """
        learners = [adapter.learner for adapter in adapters]
        loss, sets = self.config.train.loss, [adapter.instances for adapter in adapters]
        run_length = loss.rows_per_user if loss.rank > 0 else 1
        rank, num_workers, max_tokens = self.worker.rank, self.worker.world_size, self.config.train.micro_batch_tokens

        def rows_of(slot: int, step: int) -> tuple[NDArray[np.number], ...]:
            """Slot, number and weight of each row: the loss of a slot is the mean over its own batch, and DeepSpeed's over the workers."""
            numbers = adapters[slot].order.batch(step)
            size = len(numbers)
            return np.full(size, slot), numbers, np.full(size, num_workers / size, np.float32)

        def feed(steps: Sequence[int | None]) -> Iterator[tuple[object, ...]]:
            active = [rows_of(slot, step) for slot, step in enumerate(steps) if step is not None]
            slots, numbers, weight = (np.concatenate(parts) for parts in zip(*active, strict=True))
            for batch in step_batches(sets, slots, numbers, weight, max_tokens, rank, num_workers, run_length):
                yield batch.to(self.engine.device), loss.rank, run_length

        with self.worker.watchdog.watch(self.worker.rank) as beat, heed() as notice:
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
                yield slot, state, learners[slot].end


class Export(Protocol):
    """Writes what was trained below a folder. Every rank calls it, so that it may ask the engine; only rank 0 has a state to write."""

    def __call__(self, target: Path, state: TrainState, step: int, probe: Probe) -> None: ...


def fit_phase(job: Job, function: Callable[[Worker, PhaseTask], None], name: str) -> None:
    """Run the train function of a phase that trains one thing on `train.num_workers` workers; its figures go into the draft."""
    train = job.config.train
    run_on_workers(
        function,
        PhaseTask(
            config=job.config,
            places=ArtefactPaths(job.places()),
            out=job.draft.shared(),
            root=job.store.root,
            name=f"{name}-{job.key}",
        ),
        name=name,
        root=job.store.root,
        num_workers=train.num_workers,
        use_gpu=train.use_gpu,
        faults=job.config.faults,
    )
    job.draft.figures.update(read_json(f"{job.draft.shared()}/figures.json") or {})


def train_phase(
    worker: Worker,
    task: PhaseTask,
    inputs: TrainInputs,
    recommender: Recommender,
    parameters: Iterable[nn.Parameter],
    phase: PhaseSection,
    export: Export,
    *,
    first_epoch: bool = False,
    after: Path | None = None,
) -> None:
    """Train one thing on all train rows and traces, let `export` write it, and add the log and the figures.

    With `first_epoch` it is the phase's first epoch. `after`: the artefact of a first epoch to go on from, if that
    trained anything.
    """
    config = task.config
    trainer = AdapterTrainer(worker, config, recommender, parameters, phase.weight_decay)
    instances = inputs.instances(config)
    checkpoints = checkpoints_of(config, task.root, task.name)
    with writable(task.out) as target:
        log, begun = target / LOG_FILE, None
        if after and (after / STATE_FILE).is_file():
            begun = read_state(after / STATE_FILE)
            if worker.leads and not log.exists():  # else another try of this group has begun it
                shutil.copy(after / LOG_FILE, log)
        adapter = AdapterLearner(instances, phase, checkpoints, log if worker.leads else None, first_epoch, begun)
        for _, state, num_steps in trainer.train([adapter]):
            export(target, state, num_steps, Probe(trainer.engine, instances))
            if worker.leads:
                figures = {"num_steps": num_steps, "num_rows": len(instances.rows), "num_traces": len(instances.traces)}
                write_json(f"{target}/figures.json", figures)
    if worker.leads:
        checkpoints.clear()


def weights_of(state: TrainState) -> Weights:
    """The weights of a state without Adam's moments."""
    return {name: parts[0] for name, parts in state.items()}


def checkpoints_of(config: Config, root: str, name: str) -> Checkpoints:
    """The checkpoints of one training run, as the run file wants them kept."""
    return Checkpoints(root, name, config.train.num_checkpoints, config.faults.storage_wait_s)
