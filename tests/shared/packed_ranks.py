"""Run by test_packed.py under torchrun: three unlike experts in one pack, alone, killed and resumed. Not a test itself."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

CHECKPOINT_EVERY = 4
BLUNT_EPS = 1e-4
EXPERTS = (  # (users, schedule): uneven sizes, batch sizes, rates and step counts
    (slice(0, 2), {"batch_size": 4, "lr": 1e-2, "max_steps": 5, "num_epochs": 9}),
    (slice(2, 7), {"batch_size": 8, "lr": 3e-3, "max_steps": 9, "num_epochs": 9, "min_lr": 1e-3}),
    (slice(7, 16), {"batch_size": 12, "lr": 2e-2, "max_steps": 14, "num_epochs": 9, "warmup_share": 0.5}),
)


def tables_of(config: Any) -> Any:
    """Sixteen users with twelve rows each over nine items."""
    from thinkrec.config.model import NanoSection
    from thinkrec.data.interactions import Interactions
    from thinkrec.nano import model as nano
    from thinkrec.prompt.catalogue import PromptData
    from thinkrec.prompt.template import ItemText, Template, fixed_phrases

    titles = [f"Title{'x' * n} of {n}" for n in range(9)]
    tokenizer = nano.make_tokenizer([*titles, " because"], fixed_phrases(config.prompt), NanoSection(vocab_size=400))
    generator, num_rows = np.random.default_rng(0), 16 * 12
    data = Interactions(
        user=np.repeat(np.arange(16, dtype=np.int32), 12),
        item=generator.integers(0, 9, num_rows).astype(np.int32),
        label=generator.integers(0, 2, num_rows).astype(np.int8),
        ts=np.arange(num_rows),
        row=np.arange(num_rows),
        split=np.zeros(num_rows, np.int8),
        offsets=np.arange(17) * 12,
        user_ids=[f"u{n:02}" for n in range(16)],
        item_ids=[f"i{n}" for n in range(9)],
        item_in_train=np.ones(9, bool),
    )
    return PromptData(data, Template(tokenizer, [ItemText(title) for title in titles], config.prompt), None, None)


def config_of(ds_config: str) -> Any:
    from thinkrec.config import run as run_file

    train = {
        "ds_config": ds_config,
        "micro_batch_tokens": 256,
        "checkpoint_every": CHECKPOINT_EVERY,
        "loss": {"rank": 0.5, "rows_per_user": 2},
    }
    return run_file.parse({"prompt": {"priors": False, "history_length": 3}, "train": train})


def recommender_of(tables: Any, num_slots: int) -> Any:
    """The same tiny base and the same start in every slot, however many there are."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from thinkrec.model.adapter_bank import install
    from thinkrec.model.recommender import Recommender

    torch.manual_seed(0)
    llm = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tables.template.tokenizer), hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2
        )
    )
    bank = install(llm, ("q_proj", "v_proj", "up_proj"), num_slots, rank=5, alpha=10.0)
    generator = torch.Generator().manual_seed(1)
    for layer in bank.layers.values():
        for parameter in (layer.lora_A, layer.lora_B):
            parameter.data[:] = torch.randn(parameter.shape[1:], generator=generator) * 0.1
    return Recommender(llm, bank, tables.template.verdict_ids)


def worker() -> Any:
    """This process in its group, as torchrun made it."""
    from thinkrec.distributed.worker_group import Worker

    return Worker(torch.distributed.get_rank(), torch.distributed.get_world_size())


def trainer_of(config: Any, tables: Any, num_slots: int) -> Any:
    from thinkrec.train.trainer import AdapterTrainer

    recommender = recommender_of(tables, num_slots)
    return AdapterTrainer(worker(), config, recommender, recommender.bank.parameters(), 0.05, num_slots)


def rows_of(tables: Any, number: int) -> Any:
    """Positions of one expert's train rows."""
    users, _ = EXPERTS[number]
    return np.flatnonzero(np.isin(tables.interactions.user, np.arange(16)[users]))


class Killed(Exception):
    """Stands for a worker's death."""


def main(folder: str, ds_config: str) -> None:
    import deepspeed
    from learned import instances_of
    from safetensors.torch import save_file

    from thinkrec.config.training import PhaseSection
    from thinkrec.instances.records import Trace
    from thinkrec.train import loop
    from thinkrec.train.checkpoint import Checkpoints
    from thinkrec.train.deepspeed import engine, slot_adamw
    from thinkrec.train.deepspeed.slot_adamw import SlotAdamW
    from thinkrec.train.probe import Probe
    from thinkrec.train.trainer import AdapterLearner, weights_of

    torch.set_num_threads(1)
    engine.skip_compiling()
    deepspeed.init_distributed("gloo", verbose=False)
    rank = torch.distributed.get_rank()
    config = config_of(ds_config)
    tables = tables_of(config)
    pack, alone = trainer_of(config, tables, 3), trainer_of(config, tables, 1)

    def learner(number: int, name: str, checkpoints: str) -> AdapterLearner:
        _, phase = EXPERTS[number]
        rows = rows_of(tables, number)
        traces = [Trace(int(row), " because") for row in rows[: 3 * number]]
        log = Path(folder) / f"{name}.{number}.jsonl" if rank == 0 else None
        instances = instances_of(config, tables, rows, traces)
        return AdapterLearner(instances, PhaseSection(**phase), Checkpoints(folder, f"{checkpoints}-{number}"), log)

    def train_as(name: str, trainer: Any, *numbers: int, checkpoints: str = "") -> None:
        learners = [learner(number, name, checkpoints or name) for number in numbers]
        for slot, state, _ in trainer.train(learners):
            weights = weights_of(state)
            if name == "packed":  # and no other, so what equals it shows that asking disturbs no training
                logits = dict(zip(("before", "after"), probe.logits(slot), strict=True))
                save_file(logits, f"{folder}/rank{rank}.{slot}.logits")
            assert bool(weights) == (rank == 0)
            if rank == 0:
                save_file({key: tensor.contiguous() for key, tensor in weights.items()}, f"{folder}/{name}.{numbers[slot]}.safetensors")
        torch.distributed.barrier()

    def killed_at(step: int, *numbers: int) -> None:
        write = loop._write

        def dying(learner: Any, at: int, figures: Any) -> None:
            write(learner, at, figures)
            if at == step:
                raise Killed

        loop._write = dying
        with suppress(Killed):
            train_as(f"killed_at_{step}", pack, *numbers)
        loop._write = write

    def join(name: str) -> None:
        """Expert 2, saved at step 12, meets expert 1 at its first step, in other slots than before."""
        if rank == 0:
            Checkpoints(folder, "packed-1").clear()
        torch.distributed.barrier()
        train_as(name, pack, 2, 1, checkpoints="packed")

    probe = Probe(pack.engine, instances_of(config, tables, rows_of(tables, 2)))
    save, saved = Checkpoints.save, list[tuple[str, int]]()
    Checkpoints.save = lambda self, step, state: saved.append((self.name, step)) or save(self, step, state)
    train_as("packed", pack, 0, 1, 2)
    Checkpoints.save = save
    Path(folder, f"rank{rank}.saved.json").write_text(json.dumps(saved))
    for number in range(3):
        train_as("alone", alone, number)
    # With a larger eps Adam does not turn the rounding of a gradient near 0 into a step.
    eps, slot_adamw.EPS = slot_adamw.EPS, BLUNT_EPS
    train_as("packed_blunt", pack, 0, 1, 2)
    for number in range(3):
        train_as("alone_blunt", alone, number)
    slot_adamw.EPS = eps
    # Expert 0 ended at step 5 and waits for the others to be saved at step 8: all three go back to step 4.
    killed_at(6, 0, 1, 2)
    train_as("resumed_at_4", pack, 0, 1, 2, checkpoints="killed_at_6")
    # Expert 1 ended at step 9 and waits; expert 0 is through, and the others go on without it, in other slots.
    killed_at(9, 0, 1, 2)
    train_as("resumed_at_8", pack, 1, 2, checkpoints="killed_at_9")
    join("joined")
    # The controls: one clipping for the whole pack, and one bias correction for experts at different steps.
    shrink, step = SlotAdamW._shrink, SlotAdamW.step
    SlotAdamW._shrink = lambda self, norms: shrink(self, norms.square().sum().sqrt().expand(len(norms)))
    train_as("clipped_together", pack, 0, 1)
    SlotAdamW._shrink = shrink

    def in_step(self: SlotAdamW) -> None:
        self.steps = [max(self.steps)] * len(self.steps)
        step(self)

    SlotAdamW.step = in_step
    join("in_step")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
