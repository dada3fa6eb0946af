"""Stage "projector": encoder vectors learn to be read by the language model; the global adapter is frozen (the paper's stage 2)."""

from __future__ import annotations

from typing import Any

from thinkrec.config import Config, parse
from thinkrec.job import Job
from thinkrec.launch import fit
from thinkrec.model.build import build, load_adapter
from thinkrec.model.tables import Places, load_tables
from thinkrec.store import read_json, writable, write_json
from thinkrec.train import zero
from thinkrec.train.adapter import AdapterTrainer
from thinkrec.train.checkpoint import Checkpoints
from thinkrec.train.instances import Instances, load_traces, train_positions


def run(job: Job) -> None:
    """Train the projector; inputs ingest, encode, keywords, traces, base, global. Without soft slots there is nothing to learn."""
    config = job.config
    if config.prompt.slots == "none":
        job.draft.figures["used"] = False
        return
    fit(
        train_projector,
        {
            "config": config.model_dump(),
            "places": job.places(),
            "out": job.draft.uri,
            "root": job.store.root,
            "name": f"projector-{job.key}",
        },
        name="projector",
        folder=f"{job.store.root}/ray",
        num_workers=config.train.num_workers,
        use_gpu=config.train.use_gpu,
        max_failures=config.train.max_failures,
    )
    job.draft.figures.update(read_json(f"{job.draft.uri}/figures.json") or {})


def train_projector(settings: dict[str, Any]) -> None:
    """The train function of one worker."""
    from safetensors.torch import save_file

    zero.skip_compiling()
    config: Config = parse(settings["config"])
    places = Places(settings["places"])
    tables = load_tables(config, places)
    recommender = build(config, places, tables, zero.read_config(config.train.ds_config))
    load_adapter(recommender, places.path("global", "adapter"))
    assert recommender.projector is not None
    trainer = AdapterTrainer(config, recommender, recommender.projector.parameters(), config.train.projector)
    instances = Instances(config, tables, train_positions(tables), load_traces(config, places, tables))
    root, name, leads = settings["root"], settings["name"], trainer.rank == 0
    with writable(settings["out"]) as target:
        weights, num_steps = trainer.train(name, instances, root, target / "log.jsonl" if leads else None)
        if leads:
            tensors = {key.removeprefix("projector."): tensor.contiguous() for key, tensor in weights.items()}
            tensors |= {key: buffer.cpu().contiguous() for key, buffer in recommender.projector.named_buffers()}
            save_file(tensors, target / "projector.safetensors")
            write_json(f"{target}/figures.json", {"num_steps": num_steps, "num_rows": len(instances.positions)})
    if leads:
        Checkpoints(root, name).clear()
