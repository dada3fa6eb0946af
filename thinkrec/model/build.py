"""Putting a recommender together: base, adapter bank, projector."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from thinkrec.config.deepspeed import DeepSpeedFile
from thinkrec.config.run import Config
from thinkrec.model import adapter_bank
from thinkrec.model.base import load_model
from thinkrec.model.peft_files import read_adapter
from thinkrec.model.projector import Projector
from thinkrec.model.recommender import Recommender
from thinkrec.prompt.catalogue import ArtefactPaths, base_folder


def build(
    config: Config,
    places: ArtefactPaths,
    verdict_ids: tuple[int, int],
    item_vectors: Tensor | None,
    ds_config: DeepSpeedFile | None = None,
    num_adapters: int = 1,
) -> Recommender:
    """The recommender over the run's base with a fresh bank; the same weights on every rank for the same seed.

    `item_vectors` (num_items, d) are those that fill soft slots; without them there is no projector.
    """
    llm = load_model(base_folder(places), config.base.dtype, ds_config)
    torch.manual_seed(config.run.seed)
    settings = config.adapter
    bank = adapter_bank.install(llm, settings.target_modules, num_adapters, settings.rank, settings.alpha, settings.dropout)
    if config.train.gradient_checkpointing:  # it acts in training alone; reentrant, it would lose gradients where inputs have none
        llm.gradient_checkpointing_enable({"use_reentrant": False, "context_fn": bank.checkpointed})
    projector = None
    if item_vectors is not None:
        projector = Projector(item_vectors.shape[1], llm.config.hidden_size)
        projector.standardise(item_vectors[(item_vectors != 0).any(1)])
    return Recommender(llm, bank, verdict_ids, config.train.loss.score, projector)


def load_adapter(recommender: Recommender, folder: Path, slot: int = 0) -> None:
    """Fill one slot of the bank from a PEFT folder."""
    recommender.bank.load(slot, read_adapter(folder))


def load_projector(recommender: Recommender, file: Path) -> None:
    """Fill the projector; a recommender without soft slots has none and needs none."""
    from safetensors.torch import load_file

    if recommender.projector is not None:
        recommender.projector.load_state_dict(load_file(file))
