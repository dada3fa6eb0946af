"""One group of workers: it loads the frozen base once, then trains pack after pack of the fleet's queue.

The experts of a pack share every pass through the base and nothing else. Each is committed as an artefact of its own when its own steps
are done, so a group that dies goes on with the experts of its pack that are missing, each from its own checkpoint.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from thinkrec.artefacts.adapters import ADAPTER_FOLDER, LOG_FILE, PROJECTOR_FILE, expert_folder
from thinkrec.artefacts.clusters import read_assignment_facts, read_clusters
from thinkrec.artefacts.instances import read_instance_users
from thinkrec.config.run import Config
from thinkrec.distributed.failures import patiently
from thinkrec.distributed.worker_group import Worker
from thinkrec.events import ExpertDone, GroupStarted, PackDone, PackStarted, WorkerPlace
from thinkrec.job import Reporter
from thinkrec.model.build import build, load_adapter, load_projector
from thinkrec.model.peft_files import check_export, peft_tensors, read_adapter, slot_weights, write_adapter
from thinkrec.prompt.catalogue import ArtefactPaths, base_folder
from thinkrec.store.artefacts import Store
from thinkrec.train.checkpoint import TrainState
from thinkrec.train.deepspeed import engine
from thinkrec.train.fleet.actor import FleetActor
from thinkrec.train.fleet.progress import ExpertLog, report_progress
from thinkrec.train.fleet.queue import Pack
from thinkrec.train.instances import Instances, TrainInputs
from thinkrec.train.loop import fresh
from thinkrec.train.parts import Clustered, Parts
from thinkrec.train.probe import Probe
from thinkrec.train.trainer import AdapterLearner, AdapterTrainer, Weights, checkpoints_of, weights_of

if TYPE_CHECKING:
    from ray.actor import ActorHandle

STAGE = "expert"
BEFORE = "experts-before"  # the input of a refresh whose weights are trained on
T = TypeVar("T")


@dataclass(frozen=True)
class GroupTask:
    """What every worker of one group gets; `keys` names the artefact of each expert, `num_slots` is the size of the largest pack."""

    config: Config
    places: ArtefactPaths
    root: str
    number: int
    keys: Mapping[int, str]
    num_slots: int


@dataclass(frozen=True)
class FleetTask:
    """A group of a fleet: it takes its packs from this FleetActor."""

    group: GroupTask
    fleet: ActorHandle[FleetActor]


def train_group(worker: Worker, task: FleetTask) -> None:
    """The train function of one worker."""
    import ray

    fleet, number = task.fleet, task.group.number

    engine.skip_compiling()
    group = Group.load(worker, task.group, fleet.report.remote)
    group.report_devices()
    while (pack := group.agree(lambda: group.missing(ray.get(fleet.take.remote(number))))) is not None:
        group.train(pack)
        if worker.leads:
            ray.get(fleet.finish.remote(number))


@dataclass
class Group:
    """What a worker keeps from pack to pack."""

    worker: Worker
    task: GroupTask
    store: Store
    inputs: TrainInputs
    trainer: AdapterTrainer
    rows: Clustered
    traces: Clustered
    report: Reporter

    @classmethod
    def load(cls, worker: Worker, task: GroupTask, report: Reporter) -> Group:
        """Everything that packs share; every slot of the bank holds the global adapter."""
        config, places, num_slots = task.config, task.places, task.num_slots
        inputs = TrainInputs.load(config, places)
        rows, traces = clustered(places, inputs.rows, inputs.traces)
        recommender = build(config, places, inputs.verdict_ids, inputs.item_vectors, engine.read_config(config.train.ds_config), num_slots)
        for slot in range(num_slots):
            load_adapter(recommender, places.path("global", ADAPTER_FOLDER), slot)
        load_projector(recommender, places.path("projector", PROJECTOR_FILE))
        return cls(
            worker=worker,
            task=task,
            store=Store(task.root),
            inputs=inputs,
            trainer=AdapterTrainer(
                worker,
                config,
                recommender,
                recommender.bank.parameters(config.adapter.last_layers),
                config.train.experts.weight_decay,
                num_slots,
                config.refresh.proximal if BEFORE in places.uris else 0.0,
            ),
            rows=rows,
            traces=traces,
            report=report,
        )

    @cached_property
    def probe(self) -> Probe:
        """What the export gate asks, the same for all experts of the group; every rank must ask."""
        return Probe(self.trainer.engine, self.inputs.instances(self.task.config))

    def report_devices(self) -> None:
        """Report on which node each worker is and which GPUs Ray gave it."""
        import ray

        mine = WorkerPlace(ray.get_runtime_context().get_node_id()[:8], tuple(ray.get_gpu_ids()))
        workers = [mine] * self.worker.world_size
        if self.worker.world_size > 1:
            torch.distributed.all_gather_object(workers, mine)
        if self.worker.leads:
            self.report(GroupStarted(self.task.number, tuple(workers)))

    def missing(self, pack: Pack | None) -> Pack | None:
        """A pack without the experts that are committed already; None stays None."""
        return (
            None if pack is None else pack.only([expert for expert in pack.experts if not self.store.find(STAGE, self.task.keys[expert])])
        )

    def train(self, pack: Pack) -> None:
        """Train these experts side by side and commit each one as it ends."""
        if not pack.experts:
            return
        started_at = time.time()
        with tempfile.TemporaryDirectory(prefix="thinkrec-") as folder:
            learners = [self._learner(expert, Path(folder)) for expert in pack.experts]
            with self._reporting(pack, learners):
                for slot, state, num_steps in self.trainer.train(learners):
                    logits = self.probe.logits(slot)
                    if self.worker.leads:
                        figures = {"started_at": started_at, "num_steps": num_steps, "pack": list(pack.experts)}
                        commit = partial(self._commit, pack.experts[slot], learners[slot], weights_of(state), logits, figures)
                        patiently(commit, self.task.config.faults.storage_wait_s)
                        self.report(ExpertDone(self.task.number, pack.experts[slot], num_steps))
        if self.worker.leads:
            self.report(PackDone(self.task.number, pack.experts, round(time.time() - started_at, 3)))

    def _reporting(self, pack: Pack, learners: Sequence[AdapterLearner]) -> AbstractContextManager[None]:
        """Rank 0 reports what starts, and then how far it is."""
        if not self.worker.leads:
            return nullcontext()
        logs = []
        for expert, cost, learner in zip(pack.experts, pack.costs, learners, strict=True):
            assert learner.log is not None
            logs.append(ExpertLog(self.task.number, expert, learner.log, learner.num_steps, cost))
        self.report(PackStarted(self.task.number, pack.experts, tuple(learner.num_steps for learner in learners), pack.costs))
        return report_progress(logs, self.report, self.task.config.watch.every_s)

    def _learner(self, expert: int, folder: Path) -> AdapterLearner:
        instances = Instances(self.task.config, self.rows.rows(expert), self.traces.rows(expert), self.inputs.item_vectors)
        checkpoints = checkpoints_of(self.task.config, self.store.root, f"expert-{self.task.keys[expert]}")
        return AdapterLearner(
            instances,
            self.task.config.train.experts,
            checkpoints,
            folder / f"{expert}.jsonl" if self.worker.leads else None,
            begun=self._begun(expert),
            is_held=BEFORE in self.task.places.uris and self.task.config.refresh.proximal > 0,
        )

    def _begun(self, expert: int) -> tuple[int, TrainState] | None:
        """Where an expert begins in a refresh: with the weights that it has, if it has any, and moments of zero."""
        before = self.task.places.find(BEFORE)
        if before is None or not (folder := expert_folder(before, expert)).is_dir():
            return None
        return 0, fresh(slot_weights(self.trainer.engine.module.bank, self.trainer.start, read_adapter(folder)))

    def _commit(
        self, expert: int, learner: AdapterLearner, weights: Weights, logits: tuple[Tensor, Tensor], figures: Mapping[str, object]
    ) -> None:
        """Write, pass the export gate, commit; then its checkpoints can go."""
        with self.store.create(STAGE, self.task.keys[expert], {}, {"expert": expert}) as draft:
            base, target = base_folder(self.task.places), draft.local() / ADAPTER_FOLDER
            # Layers below `last_layers` were not trained: the expert keeps the global adapter's there.
            tensors = read_adapter(self.task.places.path("global", ADAPTER_FOLDER)) | peft_tensors(self.trainer.engine.module.bank, weights)
            write_adapter(target, tensors, self.task.config.adapter, base)
            check_export(target, tensors, base, logits)
            assert learner.log is not None
            shutil.copy(learner.log, draft.local() / LOG_FILE)
            rows, traces = learner.instances.rows, learner.instances.traces
            draft.figures.update(
                expert=expert, group=self.task.number, ended_at=time.time(), num_rows=len(rows), num_traces=len(traces), **figures
            )
        learner.checkpoints.clear()

    def agree(self, ask: Callable[[], T]) -> T | None:
        """What rank 0 gets from `ask`, on every rank of the group."""
        box: list[T | None] = [ask() if self.worker.leads else None]
        if self.worker.world_size > 1:
            torch.distributed.broadcast_object_list(box, src=0)
        return box[0]


def clustered(places: ArtefactPaths, *parts: Parts) -> list[Clustered]:
    """Instances by the clusters of the run, of which memory holds two bytes a user."""
    folder, instances = places.path("cluster"), places.path("instances")
    facts = read_assignment_facts(folder)
    clusters = [read_clusters(folder, read_instance_users(instances, bucket)) for bucket in range(facts.num_buckets)]
    return [Clustered(some, clusters, facts.num_clusters) for some in parts]
