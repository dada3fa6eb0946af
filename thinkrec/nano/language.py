"""Training a whole small language model (`nano` bases and teachers) on token rows, through the same loop and engine as the adapters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thinkrec.artefacts.models import LOG_FILE, MODEL_FOLDER, read_token_rows
from thinkrec.config.run import Config
from thinkrec.distributed.stopping import heed
from thinkrec.distributed.worker_group import Worker, run_on_workers
from thinkrec.model.base import CausalLM, load_model
from thinkrec.model.loss import thinking_loss
from thinkrec.store.artefacts import fetch, writable
from thinkrec.train import loop
from thinkrec.train.deepspeed import engine as zero
from thinkrec.train.order import NO_TRACES, Order, Whole
from thinkrec.train.trainer import checkpoints_of


@dataclass(frozen=True)
class LanguageTask:
    """Train the model in `folder` on the token rows beside it (artefacts/models.py), all of its parameters, and save it in place.

    `folder` is an address; `name` carries the artefact key, so checkpoints of other settings are not resumed.
    """

    config: Config
    name: str
    folder: str
    root: str
    num_epochs: float
    batch_size: int
    lr: float
    weight_decay: float


def fit_language_model(task: LanguageTask) -> None:
    """Run the task on `train.num_workers` workers."""
    config = task.config
    run_on_workers(
        train_language_model,
        task,
        name=task.name,
        root=task.root,
        num_workers=config.train.num_workers,
        use_gpu=config.train.use_gpu,
        faults=config.faults,
    )


class LanguageModel(nn.Module):
    """Weighted next-token loss of a causal model; only places that count meet the vocabulary."""

    def __init__(self, llm: CausalLM) -> None:
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


def train_language_model(worker: Worker, task: LanguageTask) -> None:
    """The train function of one worker."""
    config, folder = task.config, fetch(task.folder)
    ids, weights = read_token_rows(folder)
    order = Order(Whole(np.arange(len(ids))), NO_TRACES, task.batch_size, 1, 0.0, config.run.seed)
    rank_rows = task.batch_size // worker.world_size
    num_steps, longest = order.num_steps(task.num_epochs), max(map(len, ids)) - 1
    num_parts = -(-rank_rows // max(1, config.train.micro_batch_tokens // longest))  # lines are of about one length: padding costs little
    module = LanguageModel(load_model(folder / MODEL_FOLDER, "float32"))
    start = loop.fresh({name: parameter.detach().clone() for name, parameter in module.named_parameters()})
    ds_config = zero.read_config(config.base.nano.ds_config)
    engine = zero.initialise(module, module.parameters(), ds_config, task.weight_decay)

    def feed(steps: Sequence[int | None]) -> Iterator[tuple[object, ...]]:
        [step] = steps
        assert step is not None
        mine = order.batch(step)[worker.rank * rank_rows :][:rank_rows]
        for part in np.array_split(mine, num_parts):
            batch = _collate([ids[i] for i in part], [weights[i] for i in part])
            yield *(column.to(engine.device) for column in batch), rank_rows

    checkpoints = checkpoints_of(config, task.root, task.name)
    with writable(task.folder) as target, worker.watchdog.watch(worker.rank) as beat, heed() as notice:
        log = target / LOG_FILE if worker.leads else None
        learner = loop.Learner(num_steps, task.lr, checkpoints, log, warmup_steps=num_steps // 20)
        every = config.train.checkpoint_every
        ended = loop.run(engine, [learner], feed, start, seed=config.run.seed, checkpoint_every=every, beat=beat, notice=notice)
        [(_, state)] = ended
        if worker.leads:
            plain = load_model(folder / MODEL_FOLDER, "float32")
            plain.load_state_dict({name.removeprefix("llm."): parts[0] for name, parts in state.items()})
            plain.save_pretrained(str(target / MODEL_FOLDER), safe_serialization=True)
    if worker.leads:
        checkpoints.clear()


def _collate(ids: list[list[int]], weights: list[list[float]]) -> tuple[Tensor, ...]:
    padded = torch.zeros(len(ids), max(map(len, ids)) - 1, dtype=torch.int64)
    for number, row in enumerate(ids):
        padded[number, : len(row) - 1] = torch.tensor(row[:-1])
    places = [(r, t - 1, ids[r][t]) for r, line in enumerate(weights) for t, w in enumerate(line) if t and w > 0]
    rows, at, targets = torch.tensor(places, dtype=torch.int64).reshape(-1, 3).unbind(1)
    return padded, rows, at, targets, torch.tensor([w for line in weights for t, w in enumerate(line) if t and w > 0])
