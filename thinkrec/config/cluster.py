"""The tables of the run file about machines and those who watch: [ray], [k8s], [watch] and [plan]; see run.py."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from thinkrec.config.section import Count, Positive, Section, Share, VariableName

DnsName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
PodResource = Annotated[str, Field(pattern=r"^[a-z0-9][\w./-]*=[1-9]\d*$")]
Budget = Annotated[int, Field(ge=0, lt=2**31)]
ShapeName = Literal["", "llama3_8b", "llama3_70b", "llama3_2_1b", "llama3_2_3b", "qwen2_5_7b", "qwen3_8b"]


class KubernetesSection(Section):
    """What `thinkrec k8s` writes: one worker pod a node, the run folder on a shared volume."""

    name: DnsName = "thinkrec"
    """Name that the job or cluster and its pods begin with."""
    image: str = Field(default="thinkrec:0.1.0", min_length=1)
    """Container image of all pods: one of your own with Ray and thinkrec installed."""
    gpus_per_node: Count = 8
    """GPUs of one worker pod."""
    cpus_per_node: Count = 64
    """CPUs of one worker pod."""
    memory_per_node_gib: Count = 512
    """Memory of one worker pod, GiB."""
    head_memory_gib: int = Field(default=0, ge=0)
    """Memory of the head pod, GiB; 0 = 32 for the driver and Ray, and one for every four groups of workers, whose controllers run there."""
    node_resources: tuple[PodResource, ...] = ()
    """More of what one worker pod asks for, such as "rdma/hca=1": without its InfiniBand devices a group over nodes talks by TCP."""
    storage_claim: DnsName = "thinkrec"
    """A ReadWriteMany volume claim that all pods mount; it holds the run folder, data and models."""
    mount_path: str = Field(default="/mnt/thinkrec", pattern=r"^/[\w./-]+$")
    """Where the claim is mounted; relative paths of the run file are below it."""
    scheduler: Literal["none", "kueue", "volcano"] = "kueue"
    """Who admits all pods of the job at once or none of them: kueue, volcano, or none (pods start one by one)."""
    queue: DnsName = "default"
    """Queue of that scheduler."""
    token_secret: DnsName = "thinkrec-token"
    """A secret of the namespace with the key `auth_token`, Ray's token."""
    env_secret: DnsName = "thinkrec-env"
    """A secret of the namespace with one key for each variable in ray.secrets."""


class ClusterResources(Section):
    """How the run meets Ray. Only a loopback address, or one with token auth, is taken."""

    address: str = ""
    """Address of a running cluster, HOST:PORT or "auto"; empty starts a local cluster unless RAY_ADDRESS names one."""
    num_cpus: int = Field(default=0, ge=0)
    """Logical CPUs of a local cluster; 0 = what training needs and 2 more for Ray Data."""
    object_store_bytes: int = Field(default=256 * 2**20, ge=1, lt=2**63)
    """Shared memory of a local cluster for Ray's objects, bytes; raise it for logs of many millions of rows."""
    resource_timeout_s: Positive = 600.0
    """Seconds a worker group may wait for free CPUs or GPUs before the run stops; raise it where nodes are added on demand."""
    insecure_cluster: bool = False
    """True takes a cluster that others may reach and that no token protects: anybody who reaches it can run code there."""
    dashboard: str = "http://127.0.0.1:8265"
    """Address of Ray's dashboard, where `thinkrec submit` sends jobs."""
    working_dir: str = "."
    """Folder that a submitted job takes along; the run file must lie in it."""
    secrets: tuple[VariableName, ...] = ()
    """Names of environment variables that must be set on every node, such as AWS_SECRET_ACCESS_KEY; never their values."""
    k8s: KubernetesSection = KubernetesSection()


class WatchSection(Section):
    """How a run is reported; none of it changes what a run computes."""

    every_s: Positive = 10.0
    """Seconds between two lines about an expert that trains."""
    tensorboard: bool = False
    """Write scalars to run.dir/tensorboard; needs thinkrec[tensorboard]."""
    mlflow: bool = False
    """Keep one MLflow run in run.dir/mlflow.db for all tries of this run; needs thinkrec[mlflow]."""


class PlanSection(Section):
    """What `thinkrec plan` assumes, and by what open settings of [train] are filled in; nothing else of a run depends on it."""

    base_shape: ShapeName = ""
    """Shape of the base by name, for planning where base.path is not on this machine; empty = read base.path. A base.path that
    is here comes first."""
    peak_tflops: float = Field(default=0.0, ge=0)
    """Peak TFLOP/s of one worker; 0 = 989 a GPU (H100, dense bf16) and .05 a CPU worker."""
    mfu: Annotated[float, Field(gt=0, le=1)] = 0.3
    """Share of that peak that training reaches; long packed LoRA sequences measure .4."""
    memory_gib: Positive = 80.0
    """Memory of one GPU, GiB."""
    reserve_share: Share = 0.1
    """Share of a GPU's memory that is kept for CUDA, NCCL and fragments."""
    inside_gbytes_per_s: Positive = 450.0
    """Bandwidth of one GPU to others of its node, GB/s."""
    between_gbytes_per_s: Positive = 50.0
    """Bandwidth of one GPU to other nodes, GB/s."""
    tokens_per_item: Count = 40
    """Tokens of one interaction in a prompt, where there is no text to count."""
    switch_s: float = Field(default=5.0, ge=0)
    """Seconds a worker group needs between two experts."""
