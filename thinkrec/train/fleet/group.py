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
from typing import Any, TypeVar

import numpy as np
import polars as pl
import torch
from torch import Tensor

from thinkrec.artefacts.adapters import ADAPTER_FOLDER, LOG_FILE, PROJECTOR_FILE
from thinkrec.artefacts.clusters import NO_CLUSTER, read_assignment
from thinkrec.config.run import Config, parse
from thinkrec.distributed.failures import patiently
from thinkrec.distributed.watchdog import Watchdog
from thinkrec.events import ExpertDone, GroupStarted, PackDone, PackStarted, WorkerPlace
from thinkrec.job import Reporter
from thinkrec.model.build import build, load_adapter, load_projector
from thinkrec.model.peft_files import check_export, peft_tensors, read_adapter, write_adapter
from thinkrec.prompt.catalogue import ArtefactPaths, PromptData, base_folder, load_tables
from thinkrec.store.artefacts import Store
from thinkrec.train.deepspeed import engine
from thinkrec.train.fleet.progress import ExpertLog, report_progress
from thinkrec.train.fleet.queue import Pack
from thinkrec.train.instances import Instances, Trace, load_traces, train_positions
from thinkrec.train.order import Indices
from thinkrec.train.probe import Probe
from thinkrec.train.trainer import AdapterTrainer, Task, Weights, checkpoints_of

STAGE = "expert"
T = TypeVar("T")


def train_group(settings: dict[str, Any]) -> None:
    """The train function of one worker: keys, slots and desk as experts.py gives them."""
    import ray

    desk, number = settings["desk"], settings["group"]

    engine.skip_compiling()
    group = Group.load(settings, desk.report.remote)
    group.report_devices()
    while (pack := group.agree(lambda: group.missing(ray.get(desk.take.remote(number))))) is not None:
        group.train(pack)
        if group.leads:
            ray.get(desk.finish.remote(number))


@dataclass
class Group:
    """What a worker keeps from pack to pack; `cluster` names the cluster of each user, -1 for none."""

    number: int
    config: Config
    places: ArtefactPaths
    store: Store
    keys: Mapping[int, str]
    tables: PromptData
    trainer: AdapterTrainer
    cluster: Indices
    positions: Indices
    traces: list[Trace]
    report: Reporter

    @classmethod
    def load(cls, settings: Mapping[str, Any], report: Reporter) -> Group:
        """Everything that packs share; every slot of the bank holds the global adapter."""
        config, places, num_slots = parse(settings["config"]), ArtefactPaths(settings["places"]), settings["num_slots"]
        tables = load_tables(config, places)
        recommender = build(config, places, tables, engine.read_config(config.train.ds_config), num_slots)
        for slot in range(num_slots):
            load_adapter(recommender, places.path("global", ADAPTER_FOLDER), slot)
        load_projector(recommender, places.path("projector", PROJECTOR_FILE))
        return cls(
            number=settings["group"],
            config=config,
            places=places,
            store=Store(settings["root"]),
            keys=settings["keys"],
            tables=tables,
            trainer=AdapterTrainer(
                config,
                recommender,
                recommender.bank.parameters(config.adapter.last_layers),
                config.train.experts.weight_decay,
                num_slots,
                Watchdog(*settings["watchdog"]),
            ),
            cluster=clusters_of(places, tables.interactions.user_ids),
            positions=train_positions(tables),
            traces=load_traces(config, places, tables),
            report=report,
        )

    @property
    def leads(self) -> bool:
        """Whether this is the rank that talks to the queue and writes."""
        return self.trainer.rank == 0

    @cached_property
    def probe(self) -> Probe:
        """What the export gate asks, the same for all experts of the group; every rank must ask."""
        return Probe(self.trainer.engine, Instances(self.config, self.tables, self.positions, []))

    def report_devices(self) -> None:
        """Report on which node each worker is and which GPUs Ray gave it."""
        import ray

        mine = WorkerPlace(ray.get_runtime_context().get_node_id()[:8], tuple(ray.get_gpu_ids()))
        workers = [mine] * self.trainer.world
        if self.trainer.world > 1:
            torch.distributed.all_gather_object(workers, mine)
        if self.leads:
            self.report(GroupStarted(self.number, tuple(workers)))

    def missing(self, pack: Pack | None) -> Pack | None:
        """A pack without the experts that are committed already; None stays None."""
        return None if pack is None else pack.only([expert for expert in pack.experts if not self.store.find(STAGE, self.keys[expert])])

    def train(self, pack: Pack) -> None:
        """Train these experts side by side and commit each one as it ends."""
        if not pack.experts:
            return
        started_at = time.time()
        with tempfile.TemporaryDirectory(prefix="thinkrec-") as folder:
            tasks = [self._task(expert, Path(folder)) for expert in pack.experts]
            with self._reporting(pack, tasks):
                for slot, weights, num_steps in self.trainer.train(tasks):
                    logits = self.probe.logits(slot)
                    if self.leads:
                        figures = {"started_at": started_at, "num_steps": num_steps, "pack": list(pack.experts)}
                        commit = partial(self._commit, pack.experts[slot], tasks[slot], weights, logits, figures)
                        patiently(commit, self.config.faults.storage_wait_s)
                        self.report(ExpertDone(self.number, pack.experts[slot], num_steps))
        if self.leads:
            self.report(PackDone(self.number, pack.experts, round(time.time() - started_at, 3)))

    def _reporting(self, pack: Pack, tasks: Sequence[Task]) -> AbstractContextManager[None]:
        """Rank 0 reports what starts, and then how far it is."""
        if not self.leads:
            return nullcontext()
        logs = []
        for expert, cost, task in zip(pack.experts, pack.costs, tasks, strict=True):
            assert task.log is not None
            logs.append(ExpertLog(self.number, expert, task.log, task.num_steps, cost))
        self.report(PackStarted(self.number, pack.experts, tuple(task.num_steps for task in tasks), pack.costs))
        return report_progress(logs, self.report, self.config.watch.every_s)

    def _task(self, expert: int, folder: Path) -> Task:
        user = self.tables.interactions.user
        rows = self.positions[self.cluster[user[self.positions]] == expert]
        traces = [trace for trace in self.traces if self.cluster[user[trace.position]] == expert]
        instances = Instances(self.config, self.tables, rows, traces)
        checkpoints = checkpoints_of(self.config, self.store.root, f"expert-{self.keys[expert]}")
        return Task(instances, self.config.train.experts, checkpoints, folder / f"{expert}.jsonl" if self.leads else None)

    def _commit(self, expert: int, task: Task, weights: Weights, logits: tuple[Tensor, Tensor], figures: Mapping[str, Any]) -> None:
        """Write, pass the export gate, commit; then its checkpoints can go."""
        with self.store.create(STAGE, self.keys[expert], {}, {"expert": expert}) as draft:
            base, target = base_folder(self.places), draft.folder / ADAPTER_FOLDER
            # Layers below `last_layers` were not trained: the expert keeps the global adapter's there.
            tensors = read_adapter(self.places.path("global", ADAPTER_FOLDER)) | peft_tensors(self.trainer.engine.module.bank, weights)
            write_adapter(target, tensors, self.config.adapter, base)
            check_export(target, tensors, base, logits)
            assert task.log is not None
            shutil.copy(task.log, draft.folder / LOG_FILE)
            rows, traces = task.instances.positions, task.instances.traces
            draft.figures.update(
                expert=expert, group=self.number, ended_at=time.time(), num_rows=len(rows), num_traces=len(traces), **figures
            )
        task.checkpoints.clear()

    def agree(self, ask: Callable[[], T]) -> T | None:
        """What rank 0 gets from `ask`, on every rank of the group."""
        box: list[T | None] = [ask() if self.leads else None]
        if self.trainer.world > 1:
            torch.distributed.broadcast_object_list(box, src=0)
        return box[0]


def clusters_of(places: ArtefactPaths, users: list[str]) -> Indices:
    """Cluster of each user, -1 for none, (len(users),)."""
    assignment = read_assignment(places.path("cluster"), ["user_id", "cluster"])
    found = pl.DataFrame({"user_id": users}).join(assignment, on="user_id", how="left", maintain_order="left", validate="m:1")
    return found["cluster"].fill_null(NO_CLUSTER).to_numpy().astype(np.int64)
