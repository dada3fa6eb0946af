"""What the parts share: sizes, settings, and a base with random weights that is made on the device once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from gpu import device
from gpu.rows import tables_of
from gpu.sizes import Sizes
from thinkrec.config import run as run_file
from thinkrec.config.run import Config
from thinkrec.model.adapter_bank import AdapterBank, install
from thinkrec.model.recommender import Recommender
from thinkrec.prompt.catalogue import PromptData


class Bench:
    """Everything is made at its first use: what a failing part needs is not missed by the others."""

    def __init__(self, sizes: Sizes, folder: Path) -> None:
        self.sizes, self.folder = sizes, folder

    @cached_property
    def tables(self) -> PromptData:
        return tables_of(self.config().prompt)

    @cached_property
    def llm(self) -> Any:
        """A Llama in bfloat16 with random weights, the same at every call; 16 GB are not made on a CPU first."""
        from transformers import LlamaConfig, LlamaForCausalLM

        torch.manual_seed(0)
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.bfloat16)
        try:
            with torch.device(device.kind()):
                llm = LlamaForCausalLM(LlamaConfig(**self.sizes.llama, tie_word_embeddings=False))
        finally:
            torch.set_default_dtype(before)
        return llm.requires_grad_(False)

    def config(self, ds_config: str = "zero1", micro_batch_tokens: int = 4096) -> Config:
        """Adapters as in the recipes for an 8B base."""
        tree = {
            "base": {"dtype": "bfloat16"},
            "adapter": {"rank": 8, "target_modules": ["q_proj", "v_proj"], "dropout": 0.05},
            "prompt": {"priors": False, "slots": "none", "max_answer_tokens": self.sizes.num_new_tokens},
            "evaluate": {"batch_tokens": 16384},
            "train": {"ds_config": ds_config, "micro_batch_tokens": micro_batch_tokens},
        }
        return run_file.parse(tree)

    @contextmanager
    def recommender(self, num_slots: int, checkpointing: bool = False) -> Iterator[Recommender]:
        """The base with a fresh bank, which is taken out again."""
        llm, settings = self.llm, self.config().adapter
        torch.manual_seed(0)
        bank = install(llm, settings.target_modules, num_slots, settings.rank, settings.alpha, settings.dropout)
        if checkpointing:  # reentrant, it would lose the gradients: no input has any
            llm.gradient_checkpointing_enable({"use_reentrant": False, "context_fn": bank.checkpointed})
        try:
            yield Recommender(llm, bank, self.tables.template.verdict_ids).to(device.kind())
        finally:
            llm.gradient_checkpointing_disable()
            if any(hasattr(parameter, "ds_id") for parameter in llm.parameters()):
                del self.llm  # ZeRO-3 has cut it up
            else:
                _take_out(llm, bank)

    def join_group(self) -> None:
        """A process group of this process alone, for DeepSpeed."""
        if not torch.distributed.is_initialized():
            from thinkrec.train.deepspeed import engine

            engine.skip_compiling()
            os.environ.update(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0", MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
            backend = "nccl" if device.kind() == "cuda" else "gloo"
            torch.distributed.init_process_group(backend, init_method=f"file://{self.folder}/group", rank=0, world_size=1)


def _take_out(llm: Any, bank: AdapterBank) -> None:
    for name, layer in bank.layers.items():
        parent, _, child = name.rpartition(".")
        setattr(llm.get_submodule(parent), child, layer.base)
