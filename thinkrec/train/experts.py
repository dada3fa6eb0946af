"""Stage "experts": one adapter per user cluster, each started from the global one, all groups training at the same time.

The driver starts one Ray Train job per group from a thread of its own. A group loads the frozen base once and then takes expert after
expert from the fleet's queue; each finished expert is committed as an artefact of its own, so a killed run goes on with the rest.
"""

from __future__ import annotations

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from thinkrec.config import Config, parse
from thinkrec.errors import StageFailed
from thinkrec.job import Job
from thinkrec.launch import check_feasible, fit
from thinkrec.model.base import load_model
from thinkrec.model.build import build, load_adapter, load_projector
from thinkrec.model.export import check_export, peft_tensors, read_adapter, write_adapter
from thinkrec.model.tables import Places, Tables, base_folder, load_tables
from thinkrec.store import Artefact, Store, digest, write_json
from thinkrec.train import zero
from thinkrec.train.adapter import AdapterTrainer
from thinkrec.train.checkpoint import Checkpoints
from thinkrec.train.fleet import Pack, Queue, packs
from thinkrec.train.instances import Instances, load_traces, train_positions

STAGE = "expert"


def run(job: Job) -> None:
    """Train what is not committed yet, then gather all experts and their timeline; inputs as for projector, plus cluster and projector."""
    costs = rows_per_cluster(job)
    keys = {expert: expert_key(job.key, expert) for expert in costs}
    committed = [expert for expert, key in keys.items() if job.store.find(STAGE, key)]
    if committed:
        job.say("experts already committed", experts=committed)
    missing = {expert: cost for expert, cost in costs.items() if expert not in committed}
    if missing:
        _train_fleet(job, missing, keys)
    _gather(job, keys)


def expert_key(stage_key: str, expert: int) -> str:
    """The artefact key of one expert: the stage's own key and the cluster's number."""
    return digest([stage_key, expert])[: len(stage_key)]


def rows_per_cluster(job: Job) -> dict[int, int]:
    """Train rows of each cluster: what an expert costs."""
    assignment = pl.read_parquet(f"{job.inputs['cluster'].path('assignment')}/*.parquet", columns=["user_id", "cluster"])
    rows = pl.scan_parquet(f"{job.inputs['ingest'].path('interactions')}/**/*.parquet").filter(pl.col("split") == "train")
    counted = rows.select("user_id").collect().join(assignment, on="user_id").group_by("cluster").len().sort("cluster")
    return {int(cluster): int(count) for cluster, count in counted.iter_rows() if cluster >= 0}


def _train_fleet(job: Job, costs: dict[int, int], keys: dict[int, str]) -> None:
    import ray

    train = job.config.train
    num_groups = min(train.num_groups, len(costs))
    check_feasible(num_groups * train.workers_per_group, train.use_gpu)
    queue = ray.remote(num_cpus=0)(Queue).remote(packs(costs, num_groups, 1))
    settings = {"config": job.config.model_dump(), "places": job.places(), "root": job.store.root, "keys": keys, "queue": queue}

    def drive(group: int) -> Exception | None:
        try:
            fit(
                train_group,
                {**settings, "group": group},
                name=f"experts-group-{group}",
                folder=f"{job.store.root}/ray",
                num_workers=train.workers_per_group,
                use_gpu=train.use_gpu,
                max_failures=train.max_failures,
            )
        except StageFailed as error:  # the other groups go on; the run fails at its end, naming what is missing
            ray.get(queue.abandon.remote(group))
            job.say("group failed", group=group, error=str(error))
            return error
        return None

    with ThreadPoolExecutor(num_groups) as threads:
        failures = [error for error in threads.map(drive, range(num_groups)) if error]
    lost = [expert for expert in costs if not job.store.find(STAGE, keys[expert])]
    if lost:
        reason = str(failures[0]) if failures else "no group took them"
        raise StageFailed(f"experts {lost} are not trained: {reason}", "experts", "run the same command again; committed experts are kept")


def train_group(settings: dict[str, Any]) -> None:
    """The train function of one worker of a group."""
    import ray

    zero.skip_compiling()
    config: Config = parse(settings["config"])
    places, queue, group = Places(settings["places"]), settings["queue"], settings["group"]
    tables = load_tables(config, places)
    recommender = build(config, places, tables, zero.read_config(config.train.ds_config))
    load_adapter(recommender, places.path("global", "adapter"))
    load_projector(recommender, places.path("projector", "projector.safetensors"))
    parameters = recommender.bank.parameters_of(config.adapter.last_layers)
    trainer = AdapterTrainer(config, recommender, parameters, config.train.experts)
    while (pack := _agree(ray.get(queue.take.remote(group)) if trainer.rank == 0 else None)) is not None:
        _train_expert(config, places, tables, trainer, settings, pack.experts[0])
        if trainer.rank == 0:
            ray.get(queue.finish.remote(group))


def _agree(value: Pack | None) -> Pack | None:
    """Rank 0's value on every rank of the group."""
    box = [value]
    if torch.distributed.get_world_size() > 1:
        torch.distributed.broadcast_object_list(box, src=0)
    return box[0]


def _train_expert(config: Config, places: Places, tables: Tables, trainer: AdapterTrainer, settings: dict[str, Any], expert: int) -> None:
    data, leads = tables.interactions, trainer.rank == 0
    assignment = pl.read_parquet(f"{places.path('cluster', 'assignment')}/*.parquet", columns=["user_id", "cluster"])
    members = set(assignment.filter(pl.col("cluster") == expert)["user_id"].to_list())
    belongs = np.array([user in members for user in data.user_ids])
    positions = train_positions(tables)
    traces = [trace for trace in load_traces(config, places, tables) if belongs[data.user[trace.position]]]
    instances = Instances(config, tables, positions[belongs[data.user[positions]]], traces)
    key, started_at = settings["keys"][expert], time.time()
    folder = Store(settings["root"]).create(STAGE, key, {}, {"expert": expert}) if leads else None
    if folder is None:
        trainer.train(f"expert-{key}", instances, settings["root"], None)
        return
    with folder as draft:
        log = draft.folder / "log.jsonl"
        weights, num_steps = trainer.train(f"expert-{key}", instances, settings["root"], log)
        base, target = base_folder(places), draft.folder / "adapter"
        # Layers below `last_layers` were not trained: the expert keeps the global adapter's there.
        tensors = read_adapter(places.path("global", "adapter"))
        expected = {name: tensor.shape for name, tensor in tensors.items()}
        tensors |= peft_tensors(trainer.engine.module.bank, weights)
        write_adapter(target, tensors, config.adapter, base)
        probe = torch.tensor([tables.template.write([], 0).ids])
        check_export(target, load_model(base, "float32"), probe, expected)
        draft.figures.update(
            expert=expert,
            group=settings["group"],
            started_at=started_at,
            ended_at=time.time(),
            num_steps=num_steps,
            num_rows=len(instances.positions),
            num_traces=len(instances.traces),
        )
    Checkpoints(settings["root"], f"expert-{key}").clear()


def _gather(job: Job, keys: dict[int, str]) -> None:
    """Copy every committed expert into one artefact, with the timeline of who trained when."""
    experts: dict[int, Artefact] = {}
    for expert, key in keys.items():
        artefact = job.store.find(STAGE, key)
        assert artefact is not None
        artefact.verify()
        experts[expert] = artefact
        shutil.copytree(artefact.path("adapter"), Path(job.draft.folder) / "experts" / str(expert))
        shutil.copy(artefact.path("log.jsonl"), Path(job.draft.folder) / "experts" / str(expert) / "log.jsonl")
    begun = min(artefact.figures["started_at"] for artefact in experts.values())
    timeline = [
        {
            "expert": str(expert),
            "group": artefact.figures["group"],
            "start_s": artefact.figures["started_at"] - begun,
            "end_s": artefact.figures["ended_at"] - begun,
            **{name: artefact.figures[name] for name in ("num_steps", "num_rows", "num_traces")},
        }
        for expert, artefact in experts.items()
    ]
    write_json(f"{job.draft.folder}/timeline.json", timeline)
    job.draft.figures.update(num_experts=len(experts), timeline=timeline)
