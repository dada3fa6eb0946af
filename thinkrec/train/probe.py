"""What an adapter that is still in the engine says: the export gate asks there, so that no second base is loaded anywhere."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from thinkrec.model.recommender import Recommender
from thinkrec.train.deepspeed.engine import Engine
from thinkrec.train.instances import Instances, step_batches


class Probe:
    """The first row of a training set, put to the live engine; every rank must ask, because ZeRO-3 gathers the base for each pass."""

    def __init__(self, engine: Engine[Recommender], instances: Instances) -> None:
        [batch] = step_batches([instances], np.zeros(1, np.int64), np.zeros(1, np.int64), np.ones(1, np.float32), 1)
        self._engine, self._batch = engine, batch.to(engine.device)

    def logits(self, slot: int = 0) -> tuple[Tensor, Tensor]:
        """(1, T, vocabulary) by the base alone, computed once, and with the adapter of this slot."""
        return self._base, self._ask(slot)

    @cached_property
    def _base(self) -> Tensor:
        return self._ask(None)

    @torch.no_grad()
    def _ask(self, slot: int | None) -> Tensor:
        self._engine.eval()
        batch = replace(self._batch, gates=torch.full_like(self._batch.gates, slot or 0))
        logits: Tensor = self._engine.module.logits(batch, adapted=slot is not None)
        self._engine.train()
        return logits
