"""The run file as one frozen typed tree.

A run is one TOML file. Every key is a field below, unknown keys are refused with the nearest name, and any key can be overridden as
`--set train.experts.lr=1e-4`. Nothing here imports torch, ray, vllm or faiss, so plans and checks start at once.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from thinkrec.data_settings import ColumnsSection as ColumnsSection
from thinkrec.data_settings import DataSection as DataSection
from thinkrec.data_settings import SplitSection as SplitSection
from thinkrec.data_settings import WorldSection as WorldSection
from thinkrec.generate_settings import EngineSection as EngineSection
from thinkrec.generate_settings import HttpSection as HttpSection
from thinkrec.generate_settings import KeywordsSection as KeywordsSection
from thinkrec.generate_settings import TeacherSection as TeacherSection
from thinkrec.generate_settings import TracesSection as TracesSection
from thinkrec.generate_settings import VllmSection as VllmSection
from thinkrec.section import Count, Positive, Section, Share, VariableName
from thinkrec.toml_tree import put, read, split_override, validate

DnsName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
Budget = Annotated[int, Field(ge=0, lt=2**31)]


class RunSection(Section):
    dir: str = Field(default="runs/default", min_length=1)  # a folder or an s3:// or gs:// address; all artefacts live below it
    seed: int = Field(default=42, ge=0, lt=2**31)  # what numpy, torch, faiss and scikit-learn all take

    @model_validator(mode="after")
    def _address_is_no_secret(self) -> Self:
        if "@" in self.dir.partition("://")[2].partition("/")[0]:  # not repeated in the message: it is copied into logs and manifests
            raise ValueError("run.dir holds a user name or a password; leave them to the environment, see ray.secrets")
        return self


class LightGCNSection(Section):
    num_layers: Count = 2


class SASRecSection(Section):
    length: Count = 25  # rows of a user that a state sees
    num_blocks: Count = 2
    num_heads: Count = 1
    dropout: Share = 0.2
    feedback: bool = True  # the sequence says which rows were liked; false: it says only which items came, as published


FITS: dict[str, dict[str, float]] = {  # what EncoderSection defaults to where it differs from MF
    "lightgcn": {"dim": 64, "lr": 0.005},
    "sasrec": {"dim": 64, "num_epochs": 20, "batch_size": 64, "lr": 1e-3, "weight_decay": 0.1},
}


class EncoderSection(Section):
    source: Literal["mf", "lightgcn", "sasrec", "given"] = "mf"
    users_path: str = ""  # source = "given": parquet with (id, vector)
    items_path: str = ""
    # Of the encoder that is learned; these defaults are MF's, FITS has the others'.
    dim: Count = 16
    num_epochs: Count = 20
    batch_size: Count = 1024  # rows; SASRec: pieces of sequences
    lr: Positive = 0.01
    weight_decay: float = Field(default=0.05, ge=0)
    lightgcn: LightGCNSection = LightGCNSection()
    sasrec: SASRecSection = SASRecSection()

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_source(cls, tree: Any) -> Any:
        return FITS.get(str(tree.get("source")), {}) | tree if isinstance(tree, dict) else tree

    @model_validator(mode="after")
    def _paths_are_named(self) -> Self:
        if self.source == "given" and not (self.users_path and self.items_path):
            raise ValueError('encoder.source = "given" needs encoder.users_path and encoder.items_path')
        return self

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        if self.source == "sasrec" and self.dim % self.sasrec.num_heads:
            raise ValueError(f"encoder.dim {self.dim} does not divide by encoder.sasrec.num_heads {self.sasrec.num_heads}")
        return self


class ClusterSection(Section):
    num_clusters: int = Field(default=2, ge=0)  # 0: chosen between 2 and max_clusters by the silhouette on train users
    max_clusters: int = Field(default=6, ge=2)
    num_iterations: Count = 25
    max_points_per_centroid: Count = 256
    temperature: Positive = 0.1
    expert_threshold: float = 0.5  # one expert alone when max gate > expert_threshold + expert_slope / K
    expert_slope: float = 0.6
    entropy_share: Share = 0.95  # global when the entropy of the gates reaches this share of ln K


class NanoSection(Section):
    """A small Llama and its tokenizer, trained here on train text; head_dim 32 is one that vLLM has kernels for."""

    hidden_size: int = Field(default=64, ge=32, multiple_of=32)
    num_layers: Count = 2
    vocab_size: Count = 1024  # word pieces, before titles are added
    title_tokens: bool = True  # one token for each title seen in train
    window: Count = 24  # interactions in one line of train text
    num_epochs: Count = 10
    batch_size: Count = 32
    lr: Positive = 2e-3
    weight_decay: float = Field(default=0.05, ge=0)
    dropout: Share = 0.0
    title_dropout: Share = 0.8  # lines that withhold the title: few rows a title invite learning it by heart, and new items have none
    question_share: Share = 0.4  # share of lines asked as the prompt's question instead of told with a mark
    ds_config: str = "nano"  # as train.ds_config; too small to cut up: ZeRO-3's gathers took a third of a step on two CPU workers
    num_spoken: int = Field(default=0, ge=0)  # train rows that go on to an analysis written by rule, so that the base can speak
    text_weight: float = Field(default=0.1, ge=0)  # loss weight of tokens that are neither a mark nor a verdict, whose weight is 1


class BaseSection(Section):
    source: Literal["nano", "folder"] = "nano"
    path: str = ""
    dtype: Literal["float32", "bfloat16"] = "float32"
    nano: NanoSection = NanoSection()

    @model_validator(mode="after")
    def _path_is_named(self) -> Self:
        if self.source == "folder" and not self.path:
            raise ValueError('base.source = "folder" needs base.path, a Hugging Face folder with safetensors')
        return self


class PromptSection(Section):
    history_length: Count = 10
    history_policy: Literal["rolling", "train_only"] = "rolling"
    history_dislikes: bool = True  # false: a history shows the last likes alone; counted rates (priors) still count dislikes
    domain: str = "item"  # the noun of the question: movie, book, business
    keywords_in_history: bool = True
    titles: bool = True  # false: items are told by keywords and counts alone, for logs with few rows a title
    priors: bool = True  # counted like rates of items and user as words (method.md 14); the paper's prompt has none
    slots: Literal["none", "target", "all"] = "none"  # where projected encoder vectors stand: nowhere, user + target, or history too
    answer: Literal["first", "after"] = "first"  # verdict before or after the reasoning (D11)
    date: str = "2024-07-26"  # ISO; today, to a chat template that asks: a prompt is the same on any day. Llama 3.2's own
    max_tokens: Count = 1024
    max_answer_tokens: Count = 128

    @field_validator("date")
    @classmethod
    def _date_is_one(cls, value: str) -> str:
        return date.fromisoformat(value).isoformat()


class AdapterSection(Section):
    rank: Count = 8
    alpha: Positive = 16.0
    dropout: Share = 0.0
    target_modules: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    )
    last_layers: int = Field(default=0, ge=0)  # experts train only the last n layers; 0 = all (the paper: 8)


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


AUTO = "auto"  # of train.ds_config: the lowest ZeRO stage that has the memory, see ops/resolve.py


class TrainSection(Section):
    ds_config: str = "cpu"  # a name in ds_configs/, the path of a DeepSpeed JSON file, or auto, the default with GPUs
    micro_batch_size: Count = 32  # rows one worker takes through the model at once
    num_groups: Count = 2  # worker groups that train experts side by side
    workers_per_group: int = Field(default=1, ge=0)  # 0: as few as have the memory, see ops/resolve.py
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


class EvaluateSection(Section):
    fusion: Literal["exact", "peft_linear"] = "exact"
    num_bootstrap: Count = 1000
    num_explanations: Count = 80  # the paper's number
    bert_score_path: str = ""  # a local encoder folder; empty leaves BERTScore out
    bert_score_layer: int = -1  # of its hidden states; -1 is the last
    bleurt_path: str = ""  # a local folder of a sequence regressor trained as BLEURT; empty leaves BLEURT out
    max_rows: int = Field(default=0, ge=0)  # 0 = every test row
    license: str = ""  # of the adapters' model cards, in the Hub's spelling (apache-2.0); empty leaves it out
    batch_size: Count = 256


class KubernetesSection(Section):
    """What `thinkrec k8s` writes: one worker pod a node, the run folder on a shared volume."""

    name: DnsName = "thinkrec"
    image: str = Field(default="thinkrec:0.1.0", min_length=1)  # an image of yours with Ray and thinkrec installed
    gpus_per_node: Count = 8
    cpus_per_node: Count = 64
    memory_per_node_gib: Count = 512
    storage_claim: DnsName = "thinkrec"  # a ReadWriteMany volume claim; relative paths of the run file are below its mount
    mount_path: str = Field(default="/mnt/thinkrec", pattern=r"^/[\w./-]+$")
    scheduler: Literal["none", "kueue", "volcano"] = "kueue"  # who admits all pods of the job at once or none
    queue: DnsName = "default"
    token_secret: DnsName = "thinkrec-token"  # holds `auth_token`, Ray's token
    env_secret: DnsName = "thinkrec-env"  # holds a key for each of ray.secrets


class ClusterResources(Section):
    """How the run meets Ray. Only a loopback address, or one with token auth, is taken (DESIGN 9)."""

    address: str = ""  # "" starts a local cluster unless RAY_ADDRESS names one
    num_cpus: int = Field(default=0, ge=0)  # logical CPUs of a local cluster; 0 = what training needs + 2 spare for Ray Data
    object_store_bytes: int = Field(default=256 * 2**20, ge=1, lt=2**63)
    resource_timeout_s: Positive = 600.0  # how long a group may wait for room on the cluster
    insecure_cluster: bool = False  # take a cluster that others may reach and no token protects
    dashboard: str = "http://127.0.0.1:8265"  # where jobs are submitted
    working_dir: str = "."  # what a submitted job takes along; the run file lies in it
    secrets: tuple[VariableName, ...] = ()  # names of environment variables that must be set on every node; never their values
    k8s: KubernetesSection = KubernetesSection()


class WatchSection(Section):
    """How a run is told; none of it changes what a run computes."""

    every_s: Positive = 10.0  # between two lines about an expert that trains
    tensorboard: bool = False  # scalars in run.dir/tensorboard; needs thinkrec[tensorboard]
    mlflow: bool = False  # one MLflow run in run.dir/mlflow.db for all tries of this run; needs thinkrec[mlflow]


class PlanSection(Section):
    """What `thinkrec plan` assumes, and by what open settings of [train] are filled in; nothing else of a run depends on it."""

    peak_tflops: float = Field(default=0.0, ge=0)  # of one worker; 0 = 989 a GPU (H100, dense bf16), .05 a CPU worker
    mfu: Annotated[float, Field(gt=0, le=1)] = 0.3  # share of the peak that training reaches; long packed LoRA sequences measure .4
    memory_gib: Positive = 80.0  # of one GPU
    reserve_share: Share = 0.1  # of it kept for CUDA, NCCL and fragments
    inside_gbytes_per_s: Positive = 450.0  # links of one GPU inside a node
    between_gbytes_per_s: Positive = 50.0  # and between nodes
    tokens_per_item: Count = 40  # of one interaction in a prompt, where there is no text to count
    switch_s: float = Field(default=5.0, ge=0)  # between two experts of a group


class Config(Section):
    """One run. `digest()` names it; each stage depends only on the sections it lists."""

    run: RunSection = RunSection()
    data: DataSection = DataSection()
    split: SplitSection = SplitSection()
    encoder: EncoderSection = EncoderSection()
    cluster: ClusterSection = ClusterSection()
    engine: EngineSection = EngineSection()
    keywords: KeywordsSection = KeywordsSection()
    traces: TracesSection = TracesSection()
    base: BaseSection = BaseSection()
    prompt: PromptSection = PromptSection()
    adapter: AdapterSection = AdapterSection()
    train: TrainSection = TrainSection()
    faults: FaultsSection = FaultsSection()
    evaluate: EvaluateSection = EvaluateSection()
    ray: ClusterResources = ClusterResources()
    plan: PlanSection = PlanSection()
    watch: WatchSection = WatchSection()

    @model_validator(mode="after")
    def _nobody_disliked_what_was_drawn(self) -> Self:
        if self.data.label_rule == "implicit" and self.prompt.history_dislikes:
            raise ValueError('data.label_rule = "implicit" draws items that users never met: set prompt.history_dislikes = false')
        return self

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        train = self.train
        run_length = train.loss.rows_per_user if train.loss.rank > 0 else 1
        for name in ("global_adapter", "projector", "experts"):
            size = getattr(train, name).batch_size
            workers = (train.workers_per_group or 1) if name == "experts" else train.num_workers
            if size % (workers * run_length):
                raise ValueError(
                    f"train.{name}.batch_size {size} does not divide by {workers} workers x {run_length} rows that must stay together"
                )
        if self.traces.start_share < 1 and train.global_adapter.num_epochs <= 1:
            raise ValueError(
                f"traces.start_share {self.traces.start_share} leaves traces to the second epoch, and train.global_adapter.num_epochs is "
                f"{train.global_adapter.num_epochs}"
            )
        return self


def load(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a run file and apply `a.b=value` overrides; raises ConfigError or MissingFileError."""
    tree = read(path)
    for override in overrides:
        put(tree, *split_override(override), "--set")
    return parse(tree, str(path))


def parse(tree: dict[str, Any], where: str = "config") -> Config:
    """Check a plain tree of tables against the fields above; raises ConfigError that names every wrong key."""
    return validate(Config, tree, where, "thinkrec config show prints every key with its value")


def dump(config: Config) -> str:
    """The resolved tree as JSON, stable in order."""
    return json.dumps(config.model_dump(), indent=2, sort_keys=False)
