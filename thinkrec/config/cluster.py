"""The tables of the run file about machines and those who watch: [ray], [k8s], [watch] and [plan]; see run.py."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from thinkrec.config.section import Count, Positive, Section, Share, VariableName

DnsName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
Budget = Annotated[int, Field(ge=0, lt=2**31)]


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
