"""What does one GPU make of a base of Llama-3-8B's shape: tokens a second, memory beside the plan's, and is the adapter sound?

The trainer of the adapter stages runs a few steps on planted rows, with random bf16 weights, so nothing is downloaded: first with one
adapter, then with eight packed experts. Speeds are read from the trainer's own log, its first steps left out; utilisation counts 4 N FLOPs
a token (anchors_perf.md 3). Then one forward pass with 32 experts fused is set beside the base alone.

    torchrun --standalone benchmarks/gpu_check.py                   print the figures as JSON; needs one CUDA device of 80 GB
    torchrun --standalone benchmarks/gpu_check.py --shape tiny      the same on whatever there is, to see that it works
    torchrun --standalone benchmarks/gpu_check.py --store           and keep them in benchmarks/baselines/gpu_check.json
"""

from __future__ import annotations

import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import deepspeed
import numpy as np
import torch
import typer
from _baseline import show
from torch import Tensor

from thinkrec import config as config_room
from thinkrec.config import Config, PhaseSection
from thinkrec.data.history import Interactions
from thinkrec.errors import EnvironmentFault
from thinkrec.model.adapters import install
from thinkrec.model.export import check_export, peft_tensors, write_adapter
from thinkrec.model.nano import make_tokenizer
from thinkrec.model.prompt import ItemText, Template, fixed_phrases
from thinkrec.model.recommender import Recommender
from thinkrec.model.tables import Tables
from thinkrec.ops.memory import Load, Zero, of_worker
from thinkrec.ops.plan import GPU_TFLOPS
from thinkrec.ops.shape import Shape
from thinkrec.train import zero
from thinkrec.train.adapter import AdapterTrainer, Task
from thinkrec.train.checkpoint import Checkpoints
from thinkrec.train.instances import Instances, mixed_batch
from thinkrec.train.loop import peak_bytes

SHAPES: dict[str, dict[str, Any]] = {
    "llama3_8b": {
        "vocab_size": 128_256,
        "hidden_size": 4096,
        "intermediate_size": 14_336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
    "tiny": {"vocab_size": 1024, "hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 2, "num_attention_heads": 2},
}
NUM_USERS, NUM_ROWS, NUM_ITEMS = 16, 32, 200  # rows of each user
NUM_PACKED, NUM_FUSED = 8, 32
NUM_WARM = 3  # steps of the log that do not count
NUM_ROUNDS = 5


def settings(shape: str) -> Config:
    """bf16 under ZeRO-1, which is what `plan` advises where the base fits one card; the tiny shape runs on a CPU as well."""
    big = shape != "tiny"
    tree = {
        "base": {"dtype": "bfloat16" if big else "float32"},
        "prompt": {"priors": False, "slots": "none"},
        "train": {"ds_config": "zero1" if big else "nano", "micro_batch_size": 8, "checkpoint_every": 10**6},
    }
    return config_room.parse(tree)


def tables_of(config: Config) -> Tables:
    """Users who like at random; titles of twenty word pieces, so that a prompt is as long as a real one."""
    words = [f"{first}{second}" for first in "bdfgklmn" for second in ("ao", "ei", "iu", "oa", "ua")]
    generator, num_rows = np.random.default_rng(0), NUM_USERS * NUM_ROWS
    titles = [" ".join(generator.choice(words, 20)) for _ in range(NUM_ITEMS)]
    tokenizer = make_tokenizer(titles, fixed_phrases(config.prompt), config.base.nano.model_copy(update={"vocab_size": 512}))
    data = Interactions(
        user=np.repeat(np.arange(NUM_USERS, dtype=np.int32), NUM_ROWS),
        item=generator.integers(0, NUM_ITEMS, num_rows).astype(np.int32),
        label=generator.integers(0, 2, num_rows).astype(np.int8),
        ts=np.arange(num_rows),
        row=np.arange(num_rows),
        split=np.zeros(num_rows, np.int8),
        offsets=np.arange(NUM_USERS + 1) * NUM_ROWS,
        user_ids=[f"u{number:02}" for number in range(NUM_USERS)],
        item_ids=[f"i{number:03}" for number in range(NUM_ITEMS)],
        item_in_train=np.ones(NUM_ITEMS, bool),
    )
    return Tables(data, Template(tokenizer, [ItemText(title) for title in titles], config.prompt), None, None)


def base_of(shape: str, config: Config) -> Any:
    """A Llama with random weights on the device, the same at every call."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    with on_device(getattr(torch, config.base.dtype)):
        return LlamaForCausalLM(LlamaConfig(**SHAPES[shape], tie_word_embeddings=False)).requires_grad_(False)


@contextmanager
def on_device(dtype: torch.dtype) -> Iterator[None]:
    """Tensors are made where they are used: 16 GB of random weights are not made on a CPU first."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device()):
            yield
    finally:
        torch.set_default_dtype(before)


def device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def recommender_of(shape: str, config: Config, tables: Tables, num_slots: int) -> Recommender:
    llm = base_of(shape, config)
    bank = install(llm, config.adapter.target_modules, num_slots, config.adapter.rank, config.adapter.alpha)
    return Recommender(llm, bank, tables.template.verdict_ids).to(device())


def train(shape: str, config: Config, tables: Tables, num_experts: int, num_steps: int, folder: Path) -> dict[str, Any]:
    """Train so many experts side by side and export the first; what came of it."""
    recommender = recommender_of(shape, config, tables, num_experts)
    if device() == "cuda":
        torch.cuda.reset_peak_memory_stats()
    trainer = AdapterTrainer(config, recommender, recommender.bank.parameters_of(), 0.0, num_experts)
    phase = PhaseSection(batch_size=config.train.micro_batch_size, lr=1e-3, num_epochs=1e3, max_steps=NUM_WARM + num_steps)
    groups = np.array_split(np.arange(len(tables.interactions)), num_experts)
    name = f"{num_experts}-experts"
    tasks = [
        Task(Instances(config, tables, rows, []), phase, Checkpoints(str(folder), f"{name}-{number}"), folder / f"{name}-{number}.jsonl")
        for number, rows in enumerate(groups)
    ]
    weights = {slot: found for slot, found, _ in trainer.train(tasks)}
    logged = [json.loads(line) for line in (folder / f"{name}-0.jsonl").read_text().splitlines()]
    took = statistics.median(after["elapsed_s"] - before["elapsed_s"] for before, after in pairwise(logged[NUM_WARM:]))
    batch = mixed_batch([tasks[0].instances], np.zeros(phase.batch_size, np.int64), np.arange(phase.batch_size))
    tokens_per_s = batch.num_tokens * num_experts / took
    planned = planned_bytes(shape, config, trainer, batch.input_ids.shape[1])
    export(folder / name, shape, config, tables, peft_tensors(recommender.bank, weights[0]))
    return {
        "num_experts": num_experts,
        "rows_per_step": phase.batch_size * num_experts,
        "places_per_row": batch.input_ids.shape[1],
        "tokens_per_s": round(tokens_per_s, 1),
        "mfu": round(4 * num_params(shape) * tokens_per_s / (GPU_TFLOPS * 1e12), 4),
        "peak_bytes": peak_bytes(),
        "planned_bytes": round(planned),
        "losses": [round(line["loss"], 4) for line in (logged[0], logged[-1])],
        "exported_and_reloaded": True,  # check_export raises otherwise
    }


def planned_bytes(shape: str, config: Config, trainer: AdapterTrainer, num_places: int) -> float:
    """What `plan` would say of one worker that holds this."""
    trained = sum(parameter.numel() for parameter in trainer.engine.module.parameters() if parameter.requires_grad)
    number_bytes = torch.finfo(getattr(torch, config.base.dtype)).bits // 8
    layers = int(SHAPES[shape]["num_hidden_layers"])
    targets = frozenset(config.adapter.target_modules)
    rows = config.train.micro_batch_size
    load = Load(num_params(shape), trained, layers, rows, num_places, 2, targets, config.adapter.rank, number_bytes)
    return of_worker(shape_of(shape), load, Zero.of_file(zero.read_config(config.train.ds_config)), 1).total


def shape_of(name: str) -> Shape:
    found = SHAPES[name]
    heads = found["num_attention_heads"]
    sizes = (found["hidden_size"], found["intermediate_size"], found["num_hidden_layers"], heads, found.get("num_key_value_heads", heads))
    return Shape(*sizes, found["hidden_size"] // heads, found["vocab_size"], tied=False)


def num_params(shape: str) -> int:
    return shape_of(shape).num_params


def export(folder: Path, shape: str, config: Config, tables: Tables, tensors: dict[str, Tensor]) -> None:
    """Through the gate of every expert: right shapes, finite, B not zero, loads in plain PEFT, moves the logits."""
    write_adapter(folder, tensors, config.adapter, "random weights")
    probe = torch.tensor([tables.template.write([], 0).ids], device=device())
    check_export(folder, base_of(shape, config), probe, {name: tensor.shape for name, tensor in tensors.items()})


def fused(shape: str, config: Config, tables: Tables) -> dict[str, Any]:
    """Milliseconds of one forward pass: the base alone, and with all experts mixed anew for each row."""
    recommender = recommender_of(shape, config, tables, NUM_FUSED).to(getattr(torch, config.base.dtype)).eval()
    instances = Instances(config, tables, np.arange(len(tables.interactions)), [])
    rows = config.train.micro_batch_size
    batch = mixed_batch([instances], np.zeros(rows, np.int64), np.arange(rows)).to(device())
    batch.gates = torch.softmax(torch.randn(rows, NUM_FUSED, generator=torch.Generator().manual_seed(0)), 1).to(device())

    def alone() -> None:
        recommender.bank.gates.rows = None
        recommender.llm.model(inputs_embeds=recommender.embed(batch), use_cache=False)

    arms: dict[str, Callable[[], object]] = {"base_ms": alone, "fused_ms": lambda: recommender.hidden(batch)}
    best = dict.fromkeys(arms, float("inf"))
    with torch.no_grad():
        for _ in range(NUM_ROUNDS):
            for name, arm in arms.items():
                synchronise()
                begun = time.perf_counter()
                arm()
                synchronise()
                best[name] = min(best[name], 1000 * (time.perf_counter() - begun))
    rounded = {name: round(value, 2) for name, value in best.items()}
    return {"num_experts": NUM_FUSED, **rounded, "ratio": round(best["fused_ms"] / best["base_ms"], 3)}


def synchronise() -> None:
    if device() == "cuda":
        torch.cuda.synchronize()


def main(shape: str = "llama3_8b", num_steps: int = 10, store: Annotated[bool, typer.Option("--store")] = False) -> None:
    """Print, and with --store keep, the figures."""
    if shape not in SHAPES:
        raise typer.BadParameter(f"{shape!r} is not one of {', '.join(SHAPES)}", param_hint="--shape")
    if shape != "tiny" and device() == "cpu":
        typer.echo("no CUDA device is visible: --shape tiny runs without one", err=True)
        raise typer.Exit(EnvironmentFault.exit_code)
    config = settings(shape)
    tables = tables_of(config)
    with tempfile.TemporaryDirectory(prefix="thinkrec-") as name:
        zero.skip_compiling()
        deepspeed.init_distributed("nccl" if device() == "cuda" else "gloo", verbose=False)
        trained = []
        for num_experts in (1, NUM_PACKED):
            trained.append(train(shape, config, tables, num_experts, num_steps, Path(name)))
            if device() == "cuda":
                torch.cuda.empty_cache()
        found = {
            "question": "one device, a base of this shape with random weights",
            "shape": shape,
            "device": torch.cuda.get_device_name() if device() == "cuda" else platform.machine(),
            "date": datetime.now(UTC).date().isoformat(),
            "num_params": num_params(shape),
            "training": trained,
            "forward": fused(shape, config, tables),
            "versions": {"torch": torch.__version__, "python": platform.python_version()},
        }
        torch.distributed.destroy_process_group()
    show(__file__, found, store)


if __name__ == "__main__":
    typer.run(main)
