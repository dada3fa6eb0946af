"""Run by test_zero3.py and the fault tests: one short training on a tiny base, and what each rank held. Not a test itself."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import deepspeed
import numpy as np
import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from thinkrec.distributed.watchdog import Watchdog
from thinkrec.model.adapter_bank import install
from thinkrec.model.batch import Instance
from thinkrec.model.prefix_batch import share_prefixes
from thinkrec.model.recommender import Recommender
from thinkrec.prompt.template import Prompt
from thinkrec.train import loop
from thinkrec.train.checkpoint import Checkpoints
from thinkrec.train.deepspeed import engine as zero
from thinkrec.train.micro_batches import deal
from thinkrec.train.order import NO_TRACES, Order, Whole

RUN_LENGTH, MAX_TOKENS = 2, 40  # two or more micro batches a step


def main(folder: str) -> None:
    """Arguments: folder, DeepSpeed file, steps, and then, if given, the watchdog's window and the patience with the storage."""
    torch.set_num_threads(1)
    zero.skip_compiling()
    deepspeed.init_distributed("gloo", verbose=False)
    rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=61, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=64
    )
    llm = LlamaForCausalLM(config)
    recommender = Recommender(llm, install(llm, ("q_proj", "v_proj", "up_proj"), 1, rank=5, alpha=10.0), verdict_ids=(3, 4))
    num_weights = sum(parameter.numel() for parameter in recommender.parameters())
    trained = list(recommender.bank.parameters())
    initial = {name: one.detach().clone() for name, one in recommender.named_parameters() if any(one is other for other in trained)}
    settings = zero.read_config(sys.argv[2])
    engine = zero.initialise(recommender, trained, settings, weight_decay=0.01)
    held = sum(parameter.ds_tensor.numel() for parameter in recommender.parameters() if hasattr(parameter, "ds_tensor"))

    generator = np.random.default_rng(0)
    users = np.repeat(np.arange(6), 5)
    texts = [[int(t) for t in generator.integers(5, 61, generator.integers(4, 12))] for _ in users]
    labels = [float(text[0] > 30) for text in texts]
    order = Order(Whole(users), NO_TRACES, 8, RUN_LENGTH, 0.0, seed=1)

    def feed(steps: Sequence[int | None]) -> Iterator[tuple[object, ...]]:
        rows = [
            Instance(Prompt(texts[i], []), [3 + int(labels[i]), 1], 0, int(users[i]), labels[i], 0.9, 0.1)
            for i in order.batch(steps[0] or 0)
        ]
        only, weight = torch.zeros(len(rows), dtype=torch.int64), torch.full((len(rows),), world / len(rows))
        for at in deal(rows, only, MAX_TOKENS, world, RUN_LENGTH)[rank]:
            yield share_prefixes([rows[number] for number in at], only[at], None, None, weight=weight[at]), 0.5, RUN_LENGTH

    log = Path(folder) / "log.jsonl" if rank == 0 else None
    hang_s, wait_s = (float(text) for text in sys.argv[4:] or (0, 0))
    learner = loop.Learner(int(sys.argv[3]), 1e-2, Checkpoints(folder, "test", wait_s=wait_s), log, warmup_steps=2)
    with Watchdog(f"{folder}/hang", hang_s).watch(rank) as beat:
        [(_, state)] = loop.run(engine, [learner], feed, loop.fresh(initial), seed=1, checkpoint_every=5, beat=beat)
    if rank == 0:
        save_file({name: parts[0].contiguous() for name, parts in state.items()}, f"{folder}/weights.safetensors")
    Path(folder, f"rank{rank}.json").write_text(json.dumps({"held": held, "num_weights": num_weights}), encoding="utf-8")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
