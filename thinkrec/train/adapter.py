"""Training adapter or projector parameters of a recommender: what the global, projector and expert phases share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from thinkrec.config import Config, PhaseSection
from thinkrec.model.recommender import Recommender
from thinkrec.train import loop, zero
from thinkrec.train.checkpoint import Checkpoints
from thinkrec.train.instances import Instances
from thinkrec.train.order import accumulation


class AdapterTrainer:
    """One DeepSpeed engine over one loaded base; several experts may be trained with it one after another."""

    def __init__(self, config: Config, recommender: Recommender, parameters: Iterable[nn.Parameter], phase: PhaseSection) -> None:
        self.config, self.phase = config, phase
        self.world, self.rank = torch.distributed.get_world_size(), torch.distributed.get_rank()
        loss = config.train.loss
        self.run_length = loss.rows_per_user if loss.rank > 0 else 1
        self.rank_rows = phase.batch_size // self.world
        self.num_micro = accumulation(self.rank_rows, config.train.micro_batch_size, self.run_length)
        trained = list(parameters)
        chosen = set(map(id, trained))
        self.initial = {name: one.detach().clone() for name, one in recommender.named_parameters() if id(one) in chosen}
        ds_config = zero.read_config(config.train.ds_config)
        self.engine = zero.initialise(recommender, trained, ds_config, self.rank_rows // self.num_micro, self.num_micro, phase.weight_decay)

    def train(
        self,
        name: str,
        instances: Instances,
        root: str,
        log: Path | None,
        on_step: Callable[[int, Mapping[str, float]], None] = lambda step, figures: None,
    ) -> tuple[dict[str, Tensor], int]:
        """Train on `instances` from the weights the recommender came with.

        Returns the trained weights by parameter name, and the number of steps.
        """
        loss = self.config.train.loss
        order = instances.order(self.phase.batch_size, self.config.run.seed)
        num_steps = order.num_steps(self.phase.num_epochs, self.phase.max_steps)

        def feed(step: int, micro: int) -> tuple[Any, ...]:
            mine = order.batch(step)[self.rank * self.rank_rows :][: self.rank_rows].reshape(self.num_micro, -1)[micro]
            return instances.batch(mine).to(self.engine.device), loss.rank, self.run_length

        phase = loop.Phase(
            name,
            num_steps,
            self.phase.lr,
            self.phase.min_lr,
            round(self.phase.warmup_share * num_steps),
            self.num_micro,
            self.config.run.seed,
            self.config.train.checkpoint_every,
        )
        state = loop.run(self.engine, feed, phase, loop.fresh(self.initial), Checkpoints(root, name), log, on_step)
        return {name: parts[0] for name, parts in state.items()}, num_steps
