"""Meeting a Ray cluster: join the one that is named, or start a local one that leaves with the run."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from thinkrec.config.run import Config
from thinkrec.distributed.address import await_answer, cluster_address
from thinkrec.distributed.placement import RESOURCE_TIMEOUT
from thinkrec.errors import EnvironmentFault

HOOK = "worker_process_setup_hook"  # of a runtime env
SPARE_CPUS = 2  # Ray Data hangs in silence when trainers hold every logical CPU


@contextmanager
def ray_session(config: Config) -> Iterator[None]:
    """Connect to the cluster that `ray.address` or RAY_ADDRESS names, else start a local one with enough logical CPUs for the run's groups.

    Raises ConfigError and EnvironmentFault as address.py does, and EnvironmentFault for a cluster that does not take us or does not start.
    """
    import ray
    from ray.data import DataContext

    address = cluster_address(config)
    if address:
        await_answer(address, config.ray.resource_timeout_s)
        _connect(f"the Ray cluster at {address} does not take this run", "ray.address", config, address=address, logging_level="warning")
    else:
        _connect(
            "no local Ray starts here",
            "this machine",
            config,
            address="local",  # without it Ray would join whatever last ran `ray start` here, or crashed
            num_cpus=config.ray.num_cpus or num_cpus_needed(config),
            object_store_memory=config.ray.object_store_bytes,
            include_dashboard=False,  # nobody looks at a cluster that leaves with its run; it costs a tenth of a core
            logging_level="error",
        )
    logging.getLogger("ray.data").setLevel(logging.WARNING)  # its own progress lines would drown ours
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.addFilter(_is_no_error)
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.use_datasource_v2 = False  # its 32 footer readers a read cost seconds each time; our files are few and large
    context.set_config(RESOURCE_TIMEOUT, config.ray.resource_timeout_s)
    try:
        yield
    finally:
        ray.shutdown()


def _is_no_error(record: logging.LogRecord) -> bool:
    """What fails in Ray Data is raised here (raised.py), and stands in Ray's log file: nobody wants tracebacks of his own mistakes."""
    return record.levelno < logging.ERROR


def _connect(what: str, where: str, config: Config, **arguments: object) -> None:
    """`ray.init`, whose errors say `what`; SIGTERM stays with whoever has it."""
    import ray

    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**arguments, runtime_env=runtime_env(config), log_to_driver=False)
    except (ray.exceptions.RayError, OSError, RuntimeError, ValueError) as error:
        raise EnvironmentFault(
            f"{what}: {error}", where, "look at ray.address, ray.object_store_bytes, RAY_AUTH_MODE and the token"
        ) from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # Ray has put one in its place that ends in an abort while a thread trains


def num_cpus_needed(config: Config) -> int:
    """Logical CPUs for the widest training stage, with room for Ray Data beside it."""
    train, num_actors = config.train, config.engine.num_actors
    beside = num_actors if config.traces.starts_early else 0  # teachers go on while the global adapter learns
    return max(train.num_workers + beside, train.num_groups * train.workers_per_group, num_actors) + SPARE_CPUS


def runtime_env(config: Config) -> dict[str, object]:
    """What Ray starts every worker of the run with."""

    def collect_seldom() -> None:
        import gc

        # torch, transformers and DeepSpeed make a million objects that stay: looking through them again and again is a seventh of a start.
        gc.set_threshold(200_000, 20, 100)

    # Ray refuses a key that a submitted job names, too; the hook is the one of ours that somebody else may want.
    has_hook = HOOK in os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "")
    # Pickled whole, being inside a function: a process of Ray itself need not load this module for it.
    return {"env_vars": worker_environment(config)} | ({} if has_hook else {HOOK: collect_seldom})


def worker_environment(config: Config) -> dict[str, str]:
    """What workers must find in their environment; README lists it, and a job's own runtime env may set more."""
    environment = {
        "PYTHONWARNINGS": "ignore::FutureWarning",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        # Read by Ray Train's controllers; see worker_group.py.
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": str(config.ray.resource_timeout_s),
        "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # a process a group; workers look themselves, see stopping.py
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
