"""Tokens a second and peak memory of training at one shape of step: by plain torch, and by the trainer of the adapter stages."""

from __future__ import annotations

import json
import statistics
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gpu import device
from gpu.bench import Bench
from gpu.plain import FlatAdamW
from gpu.rows import FixedRows, batch_of
from gpu.sizes import Arm
from thinkrec.config.training import PhaseSection
from thinkrec.distributed.worker_group import Worker
from thinkrec.model.recommender import Recommender
from thinkrec.plan.machines import GPU_TFLOPS
from thinkrec.plan.memory import Load, Zero, of_worker
from thinkrec.train.checkpoint import Checkpoints
from thinkrec.train.deepspeed import engine
from thinkrec.train.loop import peak_bytes
from thinkrec.train.trainer import AdapterLearner, AdapterTrainer

LR = 1e-4


def floor(bench: Bench, arm: Arm) -> dict[str, Any]:
    """The bank in bfloat16 and a flat float32 AdamW, without DeepSpeed and without the loop: what is left is the model."""
    with bench.recommender(1, arm.checkpointing) as recommender:
        for parameter in recommender.bank.parameters():
            parameter.data = parameter.data.bfloat16()
        optimizer = FlatAdamW(recommender, recommender.bank.parameters())
        rows = FixedRows(bench.config(), bench.tables, arm.places, range(arm.rows))
        batch = batch_of(rows, np.arange(arm.rows)).to(device.kind())

        def step() -> None:
            loss, _ = recommender.train()(batch)
            loss.backward()
            optimizer.step(LR)

        took = device.seconds(step, bench.sizes.budget_s)
        return figures(bench, arm, took, recommender, "zero1")


def trained(bench: Bench, arm: Arm, ds_config: str, num_experts: int = 1) -> dict[str, Any]:
    """The same through AdapterTrainer, the log and the optimizer of a run; with several experts the rows are shared out among them."""
    bench.join_group()
    config, size = bench.config(ds_config, arm.rows * arm.places), arm.rows // num_experts
    with bench.recommender(num_experts, arm.checkpointing) as recommender:
        trainer = AdapterTrainer(Worker(), config, recommender, recommender.bank.parameters(), 0.0, num_experts)
        members = [FixedRows(config, bench.tables, arm.places, range(size * at, size * (at + 1))) for at in range(num_experts)]
        begun, log = time.monotonic(), bench.folder / f"{ds_config}-{arm}-{num_experts}"
        warm, _ = run_steps(trainer, members, size, device.NUM_WARM, log.with_suffix(".warm"))
        left = bench.sizes.budget_s - (time.monotonic() - begun)
        num_steps = int(min(max(left / warm, 2), device.NUM_ROUNDS))
        took, losses = run_steps(trainer, members, size, num_steps, log)
        found = figures(bench, arm, took, recommender, ds_config)
        trainer.engine.destroy()
    return {"num_experts": num_experts, **found, "losses": losses}


def run_steps(trainer: AdapterTrainer, members: list[FixedRows], size: int, num_steps: int, log: Path) -> tuple[float, list[float]]:
    """Train from the start for so many steps; median seconds of one, and the first and last loss of the first expert."""
    phase = PhaseSection(batch_size=size, lr=LR, num_epochs=1e6, max_steps=num_steps)
    learners = [
        AdapterLearner(rows, phase, Checkpoints(f"{log}-checkpoints", str(at)), log.with_name(f"{log.name}-{at}"))
        for at, rows in enumerate(members)
    ]
    list(trainer.train(learners))
    lines = [json.loads(line) for line in log.with_name(f"{log.name}-0").read_text(encoding="utf-8").splitlines()]
    took = statistics.median(after["elapsed_s"] - before["elapsed_s"] for before, after in pairwise(lines))
    return max(took, 1e-3), [round(line["loss"], 4) for line in (lines[0], lines[-1])]


def figures(bench: Bench, arm: Arm, took_s: float, recommender: Recommender, ds_config: str) -> dict[str, Any]:
    """Utilisation counts 4 N FLOPs a token: forward, and backward through frozen weights."""
    tokens_per_s = arm.rows * arm.places / took_s
    utilised = 4 * bench.sizes.shape.num_params * tokens_per_s / (GPU_TFLOPS * 1e12)
    return {
        "tokens_per_s": round(tokens_per_s, 1),
        "mfu": round(utilised, 4) if device.kind() == "cuda" else None,
        "checkpointing": arm.checkpointing,
        "peak_bytes": peak_bytes(),
        "planned_bytes": planned_bytes(bench, arm, recommender, ds_config),
    }


def planned_bytes(bench: Bench, arm: Arm, recommender: Recommender, ds_config: str) -> int:
    """What `plan` would say of a worker that holds this; plain torch keeps what ZeRO-1 does, but for its buffers."""
    shape, adapter = bench.sizes.shape, bench.config().adapter
    load = Load(
        num_frozen=shape.num_params,
        num_trained=recommender.bank.num_adapters * shape.adapter_params(adapter.target_modules, adapter.rank),
        num_layers=shape.num_layers,
        num_tokens=arm.rows * arm.places,
        answer_tokens=2 * arm.rows,
        targets=frozenset(adapter.target_modules),
        rank=adapter.rank,
        number_bytes=torch.bfloat16.itemsize,
        dropout=adapter.dropout > 0,
        recomputed=arm.checkpointing,
    )
    return round(of_worker(shape, load, Zero.of_file(engine.read_config(ds_config)), 1).total)
