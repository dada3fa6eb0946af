"""Training a whole small language model (`nano` bases and teachers) on token rows, through the same loop and engine as the adapters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thinkrec.artefacts.models import LOG_FILE, MODEL_FOLDER, read_token_rows
from thinkrec.config.run import Config
from thinkrec.distributed.stopping import heed
from thinkrec.distributed.watchdog import Watchdog
from thinkrec.distributed.worker_group import run_on_workers
from thinkrec.model.loss import thinking_loss
from thinkrec.store.artefacts import Artefact, writable
from thinkrec.train import loop
from thinkrec.train.checkpoint import Checkpoints
from thinkrec.train.deepspeed import engine as zero
from thinkrec.train.order import Order, micro_batches


def fit_language_model(
    config: Config, name: str, folder: str, *, num_epochs: float, batch_size: int, lr: float, weight_decay: float, root: str
) -> None:
    """Train the model in `folder` on the token rows beside it (artefacts/models.py), all of its parameters, and save it in place.

    `name` carries the artefact key, so checkpoints of other settings are not taken up.
    """
    run_on_workers(
        train_language_model,
        {
            "name": name,
            "folder": folder,
            "root": root,
            "num_epochs": num_epochs,
            "batch_size": batch_size,
            "lr": lr,
            "weight_decay": weight_decay,
            "micro_batch_size": config.train.micro_batch_size,
            "checkpoint_every": config.train.checkpoint_every,
            "ds_config": zero.read_config(config.base.nano.ds_config),
            "seed": config.run.seed,
            "num_checkpoints": config.train.num_checkpoints,
            "storage_wait_s": config.faults.storage_wait_s,
        },
        name=name,
        root=root,
        num_workers=config.train.num_workers,
        use_gpu=config.train.use_gpu,
        faults=config.faults,
    )


class LanguageModel(nn.Module):
    """Weighted next-token loss of a causal model; only places that count meet the vocabulary."""

    def __init__(self, llm: Any) -> None:
        super().__init__()
        self.llm = llm

    def forward(
        self, input_ids: Tensor, rows: Tensor, at: Tensor, targets: Tensor, weights: Tensor, num_rows: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """This micro batch's share of the mean over the `num_rows` rows of the rank's batch."""
        hidden = self.llm.model(input_ids=input_ids, use_cache=False).last_hidden_state
        losses = F.cross_entropy(self.llm.lm_head(hidden[rows, at]).float(), targets, reduction="none")
        per_row = thinking_loss(losses * weights, rows, len(input_ids)) / thinking_loss(weights, rows, len(input_ids)).clamp_min(1e-9)
        loss = per_row.sum() / num_rows
        return loss, {"loss": loss.detach()[None]}


def train_language_model(settings: dict[str, Any]) -> None:
    """The train function of one worker."""
    import torch.distributed as dist

    from thinkrec.model.base import load_model

    folder = Artefact(settings["folder"], {"key": settings["name"]}).path()
    ids, weights = read_token_rows(folder)
    order = Order(np.arange(len(ids)), 0, settings["batch_size"], 1, 0.0, settings["seed"])
    world, rank = dist.get_world_size(), dist.get_rank()
    rank_rows = settings["batch_size"] // world
    num_steps = order.num_steps(settings["num_epochs"])
    module = LanguageModel(load_model(folder / MODEL_FOLDER, "float32"))
    start = loop.fresh({name: parameter.detach().clone() for name, parameter in module.named_parameters()})
    engine = zero.initialise(module, module.parameters(), settings["ds_config"], settings["micro_batch_size"], settings["weight_decay"])

    def feed(steps: Sequence[int | None]) -> Iterator[tuple[Any, ...]]:
        [step] = steps
        assert step is not None
        mine = order.batch(step)[rank * rank_rows :][:rank_rows]
        for part in micro_batches(rank_rows, settings["micro_batch_size"], 1):
            batch = _collate([ids[i] for i in mine[part]], [weights[i] for i in mine[part]])
            yield *(column.to(engine.device) for column in batch), rank_rows

    checkpoints = Checkpoints(settings["root"], settings["name"], settings["num_checkpoints"], settings["storage_wait_s"])
    with writable(settings["folder"]) as target, Watchdog(*settings["watchdog"]).watch(rank) as beat, heed() as notice:
        log = target / LOG_FILE if rank == 0 else None
        learner = loop.Learner(num_steps, settings["lr"], checkpoints, log, warmup_steps=num_steps // 20)
        every = settings["checkpoint_every"]
        ended = loop.run(engine, [learner], feed, start, seed=settings["seed"], checkpoint_every=every, beat=beat, notice=notice)
        [(_, state)] = ended
        if rank == 0:
            plain = load_model(folder / MODEL_FOLDER, "float32")
            plain.load_state_dict({name.removeprefix("llm."): parts[0] for name, parts in state.items()})
            plain.save_pretrained(str(target / MODEL_FOLDER), safe_serialization=True)
    if rank == 0:
        checkpoints.clear()


def _collate(ids: list[list[int]], weights: list[list[float]]) -> tuple[Tensor, ...]:
    padded = torch.zeros(len(ids), max(map(len, ids)) - 1, dtype=torch.int64)
    for number, row in enumerate(ids):
        padded[number, : len(row) - 1] = torch.tensor(row[:-1])
    places = [(r, t - 1, ids[r][t]) for r, line in enumerate(weights) for t, w in enumerate(line) if t and w > 0]
    rows, at, targets = torch.tensor(places, dtype=torch.int64).reshape(-1, 3).unbind(1)
    return padded, rows, at, targets, torch.tensor([w for line in weights for t, w in enumerate(line) if t and w > 0])
