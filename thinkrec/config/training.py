"""The tables of the run file that say how it is learned, and what is done when a worker dies: [train] and [faults]; see run.py."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from thinkrec.config.cluster import Budget
from thinkrec.config.section import Count, Positive, Section, Share


class LossSection(Section):
    """The two losses of a row, of its score and of its answer text; weights are columns of each row, so batches mix freely."""

    score: Literal["yes", "yes_no"] = "yes_no"
    """What the score is: the logit of Yes (the paper), or of Yes minus No."""
    trace_rec: float = 0.1
    """Weight of the score's loss in rows with a reasoning trace."""
    trace_think: float = 0.9
    """Weight of the text's loss in rows with a reasoning trace."""
    plain_rec: float = 0.9
    """Weight of the score's loss in rows without a trace."""
    plain_think: float = 0.1
    """Weight of the text's loss in rows without a trace; their text is the verdict alone."""
    rank: float = Field(default=0.0, ge=0)
    """Weight of a pairwise term between likes and dislikes of one user, which lifts UAUC; 0 is the paper."""
    rows_per_user: Count = 4
    """Rows of one user that stand together in a batch, if rank > 0; divides the batch sizes."""


class PhaseSection(Section):
    """One training phase: the global adapter, the projector, or every expert."""

    num_epochs: Positive = 1.0
    """Passes over the train rows; may be a fraction."""
    batch_size: Count = 64
    """Rows of one optimizer step, over all workers and accumulation steps; divides by the workers."""
    lr: Positive = 1e-3
    """Highest learning rate; 1e-4 is usual for an 8B base."""
    min_lr: float = Field(default=0.0, ge=0)
    """Learning rate at the end of the cosine decay."""
    warmup_share: Share = 0.05
    """Share of the steps in which the rate rises to lr."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Weight decay of AdamW."""
    max_steps: int = Field(default=0, ge=0)
    """Steps at most; 0 = as many as num_epochs asks for."""

    @model_validator(mode="after")
    def _lr_falls(self) -> Self:
        if self.min_lr > self.lr:
            raise ValueError(f"min_lr {self.min_lr} is above lr {self.lr}: the rate would rise while training (D14)")
        return self


AUTO = "auto"  # of train.ds_config: the lowest ZeRO stage that has the memory, see plan/resolve.py


class TrainSection(Section):
    """How adapters are trained: workers, memory, checkpoints and the three phases."""

    ds_config: str = "cpu"
    """DeepSpeed settings: a name in ds_configs/, the path of a JSON file, or auto (the default with GPUs), which takes the lowest ZeRO
    stage that has the memory."""
    micro_batch_tokens: Count = 4096
    """Tokens one worker takes through the model at once, if no single row is longer; lower it when memory is short, results stay the
    same."""
    num_groups: Count = 2
    """Worker groups that train experts side by side; as many as fit on the machines."""
    workers_per_group: int = Field(default=1, ge=0)
    """Workers of one expert's group; 0 = as few as have the memory."""
    max_pack: int = Field(default=0, ge=0)
    """Experts that may train in one job; 0 = as many as one micro batch holds, 1 = each alone."""
    num_workers: Count = 2
    """Workers of the phases that train one thing: base, global adapter, projector."""
    use_gpu: bool = False
    """True: a worker is one GPU; false: one logical CPU."""
    gpus_per_scorer: int = Field(default=0, ge=0)
    """GPUs of one node over which an actor that scores, explains or recommends lays the base's layers; 0 = as few as hold it."""
    trace_share: Share = 0.2
    """Share of rows with a reasoning trace in a batch."""
    gradient_checkpointing: bool = False
    """Keep each layer's input alone and compute the rest again: a third more work, much less memory."""
    checkpoint_every: Count = 200
    """Optimizer steps between two checkpoints; what a kill costs at most."""
    num_checkpoints: int = Field(default=2, ge=2)
    """Checkpoints kept of a training run; an older one is taken when the newest is damaged."""
    loss: LossSection = LossSection()
    global_adapter: PhaseSection = PhaseSection()
    projector: PhaseSection = PhaseSection()
    experts: PhaseSection = PhaseSection(lr=5e-4)

    @model_validator(mode="before")
    @classmethod
    def _gpus_take_what_fits(cls, tree: object) -> object:
        return {"ds_config": AUTO} | tree if isinstance(tree, dict) and tree.get("use_gpu") is True else tree


class FaultsSection(Section):
    """How often a worker group is started again, by the class of its failure, and how long to wait for what may return."""

    node_sick: Budget = 3
    """Restarts after a node whose GPU or memory is broken; the node is avoided from then on."""
    node_lost: Budget = 8
    """Restarts after a node that went away, as spot instances do."""
    storage_away: Budget = 3
    """Restarts after storage that did not answer within storage_wait_s."""
    hang: Budget = 2
    """Restarts after workers that made no step for hang_s."""
    nccl: Budget = 2
    """Restarts after a failed exchange between GPUs."""
    worker_lost: Budget = 3
    """Restarts after a worker process that died alone."""
    unknown: Budget = 1
    """Restarts after anything else."""
    storage_wait_s: float = Field(default=120.0, ge=0)
    """Seconds of waiting for one read or write before the group fails."""
    hang_s: float = Field(default=900.0, ge=0)
    """Seconds without a step that count as a hang; must hold the longest step, checkpoint or export; 0 = no watch."""
    stop_s: Positive = 25.0
    """Seconds from SIGTERM to the end, for a checkpoint of what trains; schedulers kill after 30."""
    lease_s: Positive = 60.0
    """Seconds of silence after which another run may take this run's folder."""

    @model_validator(mode="after")
    def _waiting_is_no_hang(self) -> Self:
        if 0 < self.hang_s <= self.storage_wait_s:
            raise ValueError(f"hang_s {self.hang_s} must be above storage_wait_s {self.storage_wait_s}: that wait is not a hang")
        return self
