"""What does a group lose between two packs, as a share of its shortest expert?

One worker loads the base and trains expert after expert of the planted world, as in a fleet. Lost is all time of a pack but its steps:
rows and order of the next expert, dealing its state, gathering and writing what was learned, the export gate, the commit. Beside it stands
what a job of its own would cost each expert: loading base and data once more, before any process or cluster has started.

    python benchmarks/switching.py            print the shares as JSON
    python benchmarks/switching.py --store    and keep them in benchmarks/baselines/switching.json
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from typing import Any

import torch
from _baseline import show

from thinkrec.config import run as run_file
from thinkrec.distributed.session import ray_session
from thinkrec.distributed.worker_group import Worker
from thinkrec.model.peft_files import read_adapter
from thinkrec.pipeline.execute import run_stages
from thinkrec.pipeline.keys import stage_keys
from thinkrec.prompt.catalogue import ArtefactPaths
from thinkrec.store.artefacts import Store
from thinkrec.train.deepspeed import engine
from thinkrec.train.fleet.group import STAGE, Group, GroupTask
from thinkrec.train.fleet.queue import Pack
from thinkrec.train.fleet.stage import expert_key

GOAL = 0.05
NUM_EXPERTS = 4
RUN: dict[str, Any] = {
    "cluster": {"num_clusters": NUM_EXPERTS},
    "keywords": {"source": "categories"},
    "traces": {"enabled": False},
    "base": {"nano": {"num_epochs": 1}},
    "train": {"num_workers": 1, "num_groups": 1, "global_adapter": {"max_steps": 10}, "experts": {"batch_size": 32, "num_epochs": 1.0}},
}


def train_one(group: Group, expert: int, key: str) -> dict[str, float]:
    """Train and commit one expert; wall time, steps and what went into steps."""
    begun = time.monotonic()
    group.train(Pack((expert,), (1.0,)))
    wall_s = time.monotonic() - begun
    made = group.store.find(STAGE, key)
    assert made is not None
    assert any(bool(tensor.any()) for name, tensor in read_adapter(made.path("adapter")).items() if "lora_B" in name)
    elapsed = [json.loads(line)["elapsed_s"] for line in made.path("log.jsonl").read_text().splitlines()]
    steps_s = (elapsed[-1] - elapsed[0]) * len(elapsed) / (len(elapsed) - 1)  # the first one's clock also holds the dealing of state
    return {"num_steps": len(elapsed), "wall_s": wall_s, "switch_s": wall_s - steps_s}


def measure(folder: str) -> dict[str, Any]:
    """All stages before the experts through Ray, then the group in this process."""
    config = run_file.parse({**RUN, "run": {"dir": folder}})
    with ray_session(config):
        artefacts = run_stages(config, lambda event: None, until="projector")
    os.environ |= {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "0",
        "DS_ACCELERATOR": "cpu",
    }
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=0, world_size=1)
    keys = {expert: expert_key(stage_keys(config)["experts"], expert) for expert in range(NUM_EXPERTS)}
    places = ArtefactPaths({name: artefact.uri for name, artefact in artefacts.items()})
    task = GroupTask(config, places, Store(folder).root, number=0, keys=keys, num_slots=1)
    engine.skip_compiling()
    begun = time.monotonic()
    group = Group.load(Worker(), task, lambda event: None)
    load_s = time.monotonic() - begun
    train_one(group, 0, keys[0])  # the first pack also warms up, and reads the base for the export gate
    experts = [train_one(group, expert, keys[expert]) for expert in range(1, NUM_EXPERTS)]
    torch.distributed.destroy_process_group()
    shortest = min(experts, key=lambda one: one["wall_s"])
    switch_s = sum(one["switch_s"] for one in experts) / len(experts)
    return {
        "question": "time a group loses between two packs, as a share of its shortest expert",
        "goal": GOAL,
        "share": round(switch_s / shortest["wall_s"], 4),
        "steps_of_shortest": shortest["num_steps"],
        "shortest_s": round(shortest["wall_s"], 2),
        "switch_s": round(switch_s, 3),
        "load_s": round(load_s, 2),
        "load_over_switch": round(load_s / switch_s, 1),
        "experts": [{name: round(value, 3) for name, value in one.items()} for one in experts],
    }


def main() -> None:
    """Print, and with --store keep, the shares; says so when the goal is missed, which a short expert on a slow disk may."""
    with tempfile.TemporaryDirectory() as folder:
        found = measure(folder)
    show(__file__, found)
    if found["share"] > GOAL:
        print(f"the goal of {GOAL} is missed", file=sys.stderr)


if __name__ == "__main__":
    main()
