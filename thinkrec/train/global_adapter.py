"""Stage "global": one adapter on all train and trace instances (the paper's stage 1)."""

from __future__ import annotations

from typing import Any

import torch

from thinkrec.config import Config, parse
from thinkrec.data.audit import enforce
from thinkrec.data.audit_artefacts import audit_artefacts
from thinkrec.job import Job
from thinkrec.launch import fit
from thinkrec.model.base import load_model
from thinkrec.model.build import build
from thinkrec.model.export import check_export, peft_tensors, write_adapter
from thinkrec.model.tables import Places, base_folder, load_tables
from thinkrec.store import read_json, writable, write_json
from thinkrec.train import zero
from thinkrec.train.adapter import AdapterTrainer
from thinkrec.train.checkpoint import Checkpoints
from thinkrec.train.instances import Instances, load_traces, train_positions


def run(job: Job) -> None:
    """Train the global adapter through Ray Train and DeepSpeed; inputs ingest, encode, keywords, traces, base."""
    config = job.config
    for text in enforce(audit_artefacts(job.inputs), config.split.allow_leaks):
        job.say("warning", text=text)
    fit(
        train_global,
        {"config": config.model_dump(), "places": job.places(), "out": job.draft.uri, "root": job.store.root, "name": f"global-{job.key}"},
        name="global",
        folder=f"{job.store.root}/ray",
        num_workers=config.train.num_workers,
        use_gpu=config.train.use_gpu,
        max_failures=config.train.max_failures,
    )
    job.draft.figures.update(read_json(f"{job.draft.uri}/figures.json") or {})


def train_global(settings: dict[str, Any]) -> None:
    """The train function of one worker."""
    zero.skip_compiling()
    config: Config = parse(settings["config"])
    places = Places(settings["places"])
    tables = load_tables(config, places, slots=False)
    recommender = build(config, places, tables, zero.read_config(config.train.ds_config))
    trainer = AdapterTrainer(config, recommender, recommender.bank.parameters_of(), config.train.global_adapter)
    instances = Instances(config, tables, train_positions(tables), load_traces(config, places, tables))
    root, name, leads = settings["root"], settings["name"], trainer.rank == 0
    with writable(settings["out"]) as target:
        weights, num_steps = trainer.train(name, instances, root, target / "log.jsonl" if leads else None)
        if leads:
            tensors = peft_tensors(recommender.bank, weights)
            base = base_folder(places)
            write_adapter(target / "adapter", tensors, config.adapter, base)
            probe = torch.tensor([tables.prompt(int(instances.positions[0])).ids])
            check_export(target / "adapter", load_model(base, "float32"), probe, {key: tensor.shape for key, tensor in tensors.items()})
            figures = {"num_steps": num_steps, "num_rows": len(instances.positions), "num_traces": len(instances.traces)}
            write_json(f"{target}/figures.json", figures)
    if leads:
        Checkpoints(root, name).clear()
