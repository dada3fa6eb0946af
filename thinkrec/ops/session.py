"""Meeting a Ray cluster: use the one that is there, or start a local one that leaves with the run."""

from __future__ import annotations

import ipaddress
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from thinkrec.config import Config
from thinkrec.errors import EnvironmentFault

SPARE_CPUS = 2  # Ray Data hangs in silence when trainers hold every logical CPU


@contextmanager
def ray_session(config: Config) -> Iterator[None]:
    """Connect to `ray.address` or RAY_ADDRESS, else start a local cluster with enough logical CPUs for the run's groups."""
    import ray
    from ray.data import DataContext

    address = config.ray.address or os.environ.get("RAY_ADDRESS", "")
    if address:
        check_address(address, config.ray.insecure_cluster)
        try:
            ray.init(address=address, runtime_env={"env_vars": worker_environment(config)}, log_to_driver=False, logging_level="warning")
        except ConnectionError as error:
            raise EnvironmentFault(f"no Ray cluster answers: {error}", address, "start it, or leave ray.address empty") from None
    else:
        ray.init(
            num_cpus=config.ray.num_cpus or num_cpus_needed(config),
            object_store_memory=config.ray.object_store_bytes,
            include_dashboard=False,  # nobody looks at a cluster that leaves with its run; it costs a tenth of a core
            runtime_env={"env_vars": worker_environment(config)},
            log_to_driver=False,
            logging_level="error",
        )
    logging.getLogger("ray.data").setLevel(logging.WARNING)  # its own progress lines would drown ours
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.use_datasource_v2 = False  # its 32 footer readers a read cost seconds each time; our files are few and large
    try:
        yield
    finally:
        ray.shutdown()


def num_cpus_needed(config: Config) -> int:
    """Logical CPUs for the widest training stage, with room for Ray Data beside it."""
    train, num_actors = config.train, config.engine.num_actors
    beside = num_actors if config.traces.enabled and config.traces.start_share < 1 else 0  # teachers go on while the global adapter learns
    return max(train.num_workers + beside, train.num_groups * train.workers_per_group, num_actors) + SPARE_CPUS


def worker_environment(config: Config) -> dict[str, str]:
    """What workers must find in their environment; README lists it, and a job's own runtime env may set more."""
    environment = {
        "PYTHONWARNINGS": "ignore::FutureWarning",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        # Read by Ray Train's controllers; see launch.py.
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": str(config.ray.resource_timeout_s),
        "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # a process a group for notices that nothing here reads
    }
    if config.engine.kind == "vllm":
        environment["VLLM_NO_USAGE_STATS"] = "1"  # else every engine reports to its makers
    if config.train.use_gpu:
        environment["PYTORCH_CUDA_ALLOC_CONF"] = "expandable_segments:True"  # every micro batch has a shape of its own
    else:
        environment |= {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}
        # glibc would hand every large tensor back to the kernel and fault its pages in again at the next step.
        environment |= {"MALLOC_MMAP_THRESHOLD_": "4000000000", "MALLOC_TRIM_THRESHOLD_": "8000000000", "MALLOC_TOP_PAD_": "200000000"}
    return environment


def check_address(address: str, insecure: bool = False) -> None:
    """Refuse a cluster that others could reach without a token: an open Ray dashboard is remote code execution (CVE-2023-48022).

    `insecure` is the operator's word that they know. Raises EnvironmentFault.
    """
    if address == "auto":  # Ray follows its own variable, else it looks on this machine
        address = os.environ.get("RAY_ADDRESS", "local")
    if insecure or address in ("auto", "local") or os.environ.get("RAY_AUTH_MODE") == "token":
        return
    host = urlsplit(address if "://" in address else f"ray://{address}").hostname or ""
    if not is_loopback(host):
        raise EnvironmentFault(
            f"the Ray cluster at {host!r} is not on this machine and no token protects it",
            "ray.address",
            "start it with RAY_AUTH_MODE=token and set that here too, or vouch for its network with --insecure-cluster",
        )


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches `host`; a name that is not `localhost` is taken to be elsewhere."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
