"""The tables of the run file that say how it is learned, and what is done when a worker dies: [train] and [faults]; see run.py."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from thinkrec.config.cluster import Budget
from thinkrec.config.section import Count, Positive, Section, Share


class LossSection(Section):
    """Eqs. of method.md 7; the weights are columns of each row, so batches mix freely (D22)."""

    score: Literal["yes", "yes_no"] = "yes_no"
    trace_rec: float = 0.1
    trace_think: float = 0.9
    plain_rec: float = 0.9
    plain_think: float = 0.1
    rank: float = Field(default=0.0, ge=0)  # weight of the within-user pairwise term; 0 is the paper
    rows_per_user: Count = 4  # rows of one user that stand together in a batch when rank > 0


class PhaseSection(Section):
    """One training phase: an adapter, the projector, or every expert."""

    num_epochs: Positive = 1.0
    batch_size: Count = 64  # global batch, over all workers and accumulation steps
    lr: Positive = 1e-3
    min_lr: float = Field(default=0.0, ge=0)
    warmup_share: Share = 0.05
    weight_decay: float = Field(default=0.0, ge=0)
    max_steps: int = Field(default=0, ge=0)  # 0 = as many as num_epochs asks for

    @model_validator(mode="after")
    def _lr_falls(self) -> Self:
        if self.min_lr > self.lr:
            raise ValueError(f"min_lr {self.min_lr} is above lr {self.lr}: the rate would rise while training (D14)")
        return self


AUTO = "auto"  # of train.ds_config: the lowest ZeRO stage that has the memory, see plan/resolve.py


class TrainSection(Section):
    ds_config: str = "cpu"  # a name in ds_configs/, the path of a DeepSpeed JSON file, or auto, the default with GPUs
    micro_batch_size: Count = 32  # rows one worker takes through the model at once
    num_groups: Count = 2  # worker groups that train experts side by side
    workers_per_group: int = Field(default=1, ge=0)  # 0: as few as have the memory, see plan/resolve.py
    max_pack: int = Field(default=0, ge=0)  # experts that may train in one job; 0 = as many as one micro batch holds
    num_workers: Count = 2  # workers of the phases that train one thing
    use_gpu: bool = False
    trace_share: Share = 0.2  # share of trace rows in a batch
    gradient_checkpointing: bool = False  # keep each layer's input alone and compute the rest again: a third more work, much less memory
    checkpoint_every: Count = 200  # optimizer steps
    num_checkpoints: int = Field(default=2, ge=2)  # kept of a training run; an older one is taken when the newest is damaged
    loss: LossSection = LossSection()
    global_adapter: PhaseSection = PhaseSection()
    projector: PhaseSection = PhaseSection()
    experts: PhaseSection = PhaseSection(lr=5e-4)

    @model_validator(mode="before")
    @classmethod
    def _gpus_take_what_fits(cls, tree: Any) -> Any:
        return {"ds_config": AUTO} | tree if isinstance(tree, dict) and tree.get("use_gpu") is True else tree


class FaultsSection(Section):
    """How often a worker group is started again, by the class of its failure (failures.py), and how long to wait for what may return."""

    node_sick: Budget = 3
    node_lost: Budget = 8
    storage_away: Budget = 3
    hang: Budget = 2
    nccl: Budget = 2
    worker_lost: Budget = 3
    unknown: Budget = 1
    storage_wait_s: float = Field(default=120.0, ge=0)  # of one read or write, before the group fails
    hang_s: float = Field(default=900.0, ge=0)  # without a step; must hold the longest step, checkpoint or export; 0 = no watch
    stop_s: Positive = 25.0  # from SIGTERM to the end, for a checkpoint of what trains; schedulers kill after 30
    lease_s: Positive = 60.0  # silence after which another run may take this run's folder

    @model_validator(mode="after")
    def _waiting_is_no_hang(self) -> Self:
        if 0 < self.hang_s <= self.storage_wait_s:
            raise ValueError(f"hang_s {self.hang_s} must be above storage_wait_s {self.storage_wait_s}: waiting for the storage is no hang")
        return self
