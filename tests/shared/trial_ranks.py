"""Run by test_trial.py: the trial under one DeepSpeed file after the other, this process being the only rank. Not a test itself."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import deepspeed
import torch

from thinkrec.config import run as run_file
from thinkrec.deploy import trial
from thinkrec.deploy.trial_inputs import write_inputs
from thinkrec.distributed.worker_group import Worker
from thinkrec.model.base import load_model
from thinkrec.prompt.catalogue import ArtefactPaths
from thinkrec.store.address import read_json
from thinkrec.store.artefacts import Store
from thinkrec.train.deepspeed import engine


def tried(folder: Path, ds_config: str, dtype: str) -> trial.Tried:
    """What came of a trial (Tried) without dropout, whose masks differ between dtypes."""
    tree = {
        "base": {"dtype": dtype},
        "prompt": {"slots": "all", "history_length": 4},
        "adapter": {"last_layers": 8},
        "train": {"ds_config": ds_config, "num_workers": 1},
    }
    config = trial.shrunk(run_file.parse(tree))
    store = Store(str(folder))
    task = trial.TrialTask(config, ArtefactPaths(write_inputs(config, store)), store.root, f"{store.root}/found.json")
    trial.try_phases(Worker(), task)
    return trial.Tried(**(read_json(task.found) or {}))


def frequencies(base: Path, ds_config: str | None) -> list[float]:
    """Of the rotary embedding of a base that is loaded in bfloat16, plainly or partitioned."""
    llm = load_model(base, "bfloat16", engine.read_config(ds_config) if ds_config else None)
    [found] = {module.inv_freq for module in llm.modules() if hasattr(module, "inv_freq")}
    assert found.dtype == torch.float32
    return found.tolist()


def main(folder: Path, cases: list[str]) -> None:
    torch.set_num_threads(1)
    engine.skip_compiling()
    deepspeed.init_distributed("gloo", verbose=False)
    found: dict[str, Any] = {}
    for case in cases:
        ds_config, dtype = case.split(":")
        found[case] = asdict(tried(folder / case.replace(":", "-"), ds_config, dtype))
    base = folder / cases[0].replace(":", "-") / "base" / "trial" / "model"
    found["frequencies"] = {name: frequencies(base, name or None) for name in ("", "zero3")}
    (folder / "found.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    for name, value in {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": sys.argv[2]}.items():
        os.environ[name] = str(value)
    main(Path(sys.argv[1]), sys.argv[3:])
