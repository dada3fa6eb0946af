"""KubeRay manifests of a run: a RayJob that makes it, a RayCluster that grows under submitted jobs, a RayService of its package.

Field names are those of ray.io/v1 (KubeRay 1.6, the first whose `authOptions` reaches RayJobs with a secret of one's own). The run file
travels in a ConfigMap; secrets are named, never held.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from importlib.metadata import version
from typing import Literal

import yaml

from thinkrec.config.run import Config
from thinkrec.errors import ConfigError

Kind = Literal["RayJob", "RayCluster"]
RUN_FOLDER, RUN_FILE = "/etc/thinkrec", "run.toml"
HEAD_CPUS, HEAD_GIB = 8, 32
GROUPS_PER_GIB = 4  # the controller of a group of workers runs beside the driver, in a process of about 250 MB
SERVE_PORT = 8000  # the one that KubeRay looks for where pods name none
SERVE_BUILDER = "thinkrec.serve.deployment:from_arguments"
PORTS = {"gcs-server": 6379, "dashboard": 8265, "client": 10001}
NUM_RETRIES = 3  # each makes a new cluster; the run goes on from its artefacts
KEEP_S = 600  # how long a finished cluster stays, for its logs


def render(config: Config, run_file: str, overrides: Sequence[str] = (), kind: Kind = "RayJob") -> str:
    """The manifests as YAML; `run_file` is the text of the run file."""
    run_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _metadata(config, "-run"), "data": {RUN_FILE: run_file}}
    documents = [_cluster(config)] if kind == "RayCluster" else [run_map, _job(config, overrides)]
    return yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False)


def render_service(config: Config, package: str, key_env: str, num_replicas: int = 1) -> str:
    """The RayService that serves a package on nodes like those of the run, as YAML; `key_env` is the variable with the key, a secret.

    A replica has a GPU of its own where the run trains on GPUs, else a node.
    """
    num_gpus, each = (1, config.ray.k8s.gpus_per_node) if config.train.use_gpu else (0, 1)
    secrets = tuple(dict.fromkeys([*config.ray.secrets, key_env]))
    config = config.model_copy(update={"ray": config.ray.model_copy(update={"secrets": secrets})})
    arguments = {"package": package, "key_env": key_env, "num_replicas": num_replicas, "num_gpus": num_gpus}
    serve = {
        "proxy_location": "EveryNode",
        "http_options": {"host": "0.0.0.0", "port": SERVE_PORT},
        "applications": [{"name": "thinkrec", "route_prefix": "/", "import_path": SERVE_BUILDER, "args": arguments}],
    }
    spec = {
        "serveConfigV2": yaml.dump(serve, sort_keys=False),
        "rayClusterConfig": _cluster_spec(config, -(-num_replicas // each), grows=False, has_run_file=False),
    }
    document = {"apiVersion": "ray.io/v1", "kind": "RayService", "metadata": _metadata(config, "-serve"), "spec": spec}
    return yaml.dump_all([document], Dumper=_Dumper, sort_keys=False)


class _Dumper(yaml.SafeDumper):
    """No anchors, and texts of several lines as they stand: the files are read by people."""

    def ignore_aliases(self, data: object) -> bool:
        return True

    def represent_scalar(self, tag: str, value: object, style: str | None = None) -> yaml.ScalarNode:
        return super().represent_scalar(tag, value, "|" if "\n" in str(value) else style)


def num_nodes(config: Config) -> int:
    """Worker pods that hold the widest stage; raises ConfigError for a group that no node holds."""
    train, k8s = config.train, config.ray.k8s
    each = k8s.gpus_per_node if train.use_gpu else k8s.cpus_per_node - 2  # two stay free for Ray Data
    if train.workers_per_group > each:
        raise ConfigError(
            f"a group of {train.workers_per_group} workers does not fit a node of {each}",
            "train.workers_per_group",
            "keep a group inside a node, or raise ray.k8s.gpus_per_node",
        )
    groups = -(-train.num_groups // (each // train.workers_per_group))
    return max(groups, -(-train.num_workers // each))


def _job(config: Config, overrides: Sequence[str]) -> dict[str, object]:
    words = ["python", "-m", "thinkrec", "run", f"{RUN_FOLDER}/{RUN_FILE}"]
    words += [word for override in overrides for word in ("--set", override)]
    spec = {
        # Relative paths of the run file are paths on the shared volume.
        "entrypoint": f"cd {shlex.quote(config.ray.k8s.mount_path)} && {shlex.join(words)}",
        "submissionMode": "K8sJobMode",
        "backoffLimit": NUM_RETRIES,
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": KEEP_S,
        "suspend": config.ray.k8s.scheduler == "kueue",  # Kueue admits it when all pods have room
        "rayClusterSpec": _cluster_spec(config, num_nodes(config), grows=False, has_run_file=True),
    }
    return {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": _metadata(config, queued=True), "spec": spec}


def _cluster(config: Config) -> dict[str, object]:
    spec = {
        **_cluster_spec(config, num_nodes(config), grows=True, has_run_file=False),
        "enableInTreeAutoscaling": True,
        "autoscalerOptions": {"upscalingMode": "Default", "idleTimeoutSeconds": KEEP_S},
    }
    return {"apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": _metadata(config), "spec": spec}


def _metadata(config: Config, suffix: str = "", queued: bool = False) -> dict[str, object]:
    k8s = config.ray.k8s
    labels = {"app.kubernetes.io/name": "thinkrec"}
    if queued and k8s.scheduler == "kueue":
        labels["kueue.x-k8s.io/queue-name"] = k8s.queue
    if queued and k8s.scheduler == "volcano":
        labels |= {"ray.io/scheduler-name": "volcano", "volcano.sh/queue-name": k8s.queue}
    return {"name": f"{k8s.name}{suffix}", "labels": labels}


def _cluster_spec(config: Config, nodes: int, grows: bool, has_run_file: bool) -> dict[str, object]:
    k8s = config.ray.k8s
    resources = {"cpu": str(k8s.cpus_per_node), "memory": f"{k8s.memory_per_node_gib}Gi"}
    resources |= dict(named.split("=") for named in k8s.node_resources)
    head_gib = k8s.head_memory_gib or HEAD_GIB + -(-config.train.num_groups // GROUPS_PER_GIB)
    if config.train.use_gpu:
        resources["nvidia.com/gpu"] = str(k8s.gpus_per_node)
    return {
        "rayVersion": version("ray"),  # the image must hold the same
        "authOptions": {"mode": "token", "secretName": k8s.token_secret},
        "headGroupSpec": {
            # No CPUs to give away: training stays off the head, so that losing a worker never loses the driver.
            "rayStartParams": {"num-cpus": "0", "num-gpus": "0", "dashboard-host": "0.0.0.0"},
            "template": _pod(config, "ray-head", {"cpu": str(HEAD_CPUS), "memory": f"{head_gib}Gi"}, has_run_file),
        },
        "workerGroupSpecs": [
            {
                "groupName": "workers",
                "replicas": 0 if grows else nodes,
                "minReplicas": 0 if grows else nodes,
                "maxReplicas": nodes,
                "numOfHosts": 1,
                "rayStartParams": {},
                "template": _pod(config, "ray-worker", resources),
            }
        ],
    }


def _pod(config: Config, name: str, resources: dict[str, str], has_run_file: bool = False) -> dict[str, object]:
    k8s = config.ray.k8s
    mounts: list[dict[str, object]] = [
        {"name": "storage", "mountPath": k8s.mount_path},
        {"name": "shm", "mountPath": "/dev/shm"},
    ]
    container: dict[str, object] = {
        "name": name,
        "image": k8s.image,
        "workingDir": k8s.mount_path,
        "resources": {"limits": resources, "requests": resources},
        "volumeMounts": mounts,
    }
    volumes: list[dict[str, object]] = [
        {"name": "storage", "persistentVolumeClaim": {"claimName": k8s.storage_claim}},
        {"name": "shm", "emptyDir": {"medium": "Memory"}},  # Ray's object store and NCCL
    ]
    if name == "ray-head":
        container["ports"] = [{"name": port, "containerPort": number} for port, number in PORTS.items()]
    if has_run_file:
        mounts.append({"name": "run", "mountPath": RUN_FOLDER, "readOnly": True})
        volumes.append({"name": "run", "configMap": {"name": f"{k8s.name}-run"}})
    if config.ray.secrets:
        container["env"] = [
            {"name": secret, "valueFrom": {"secretKeyRef": {"name": k8s.env_secret, "key": secret}}} for secret in config.ray.secrets
        ]
    return {"spec": {"containers": [container], "volumes": volumes, "restartPolicy": "Never"}}
