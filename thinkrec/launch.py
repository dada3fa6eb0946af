"""One Ray Train job: the single door through which every stage that trains meets Ray Train V2.

Results travel through files, never through `report()`: Ray's controller takes one report per worker and poll (2 s), and a rerun under an
old run name returns the old result without training. So every try gets a name of its own, and resuming is the business of the train
function, which finds its own checkpoints.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any

from thinkrec.errors import EnvironmentFault, StageFailed, ThinkrecError


def fit(
    function: Callable[[dict[str, Any]], None],
    settings: Mapping[str, Any],
    *,
    name: str,
    folder: str,
    num_workers: int,
    use_gpu: bool,
    max_failures: int = 0,
) -> None:
    """Run `function(settings)` on a worker group and wait, again up to `max_failures` times if it dies; it resumes by itself.

    A ThinkrecError raised by a worker comes back as itself, at once. Raises EnvironmentFault when the cluster can never hold the group
    (Ray itself would wait for ever), StageFailed when it dies for good or for want of memory.
    """
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    check_feasible(num_workers, use_gpu)
    for failures in range(max_failures + 1):
        trainer = TorchTrainer(
            function,
            train_loop_config=dict(settings),
            # Logical GPUs on a CPU machine, too, need gloo: only a visible CUDA device makes nccl possible.
            torch_config=TorchConfig(backend="nccl" if use_gpu and _cuda_in_cluster() else "gloo"),
            scaling_config=ray.train.ScalingConfig(
                num_workers=num_workers, use_gpu=use_gpu, resources_per_worker={"CPU": 1, "GPU": 1} if use_gpu else {"CPU": 1}
            ),
            # Ray's own retries would do a wrong run file or a NaN over again, too.
            run_config=ray.train.RunConfig(name=f"{name}-{uuid.uuid4().hex[:8]}", storage_path=folder),
        )
        try:
            trainer.fit()
            return
        except ray.train.TrainingFailedError as error:
            _raise_if_final(_causes(error), name)
            if failures == max_failures:
                raise StageFailed(
                    f"{name}: the worker group failed: {_last_line(error)}", folder, "run the same command again to resume"
                ) from error


def _raise_if_final(causes: list[BaseException], name: str) -> None:
    """What would happen again however often it is tried: an error raised on purpose, or a lack of memory."""
    for cause in causes:
        if isinstance(cause, ThinkrecError):
            raise cause from None
    if any(type(cause).__name__ == "OutOfMemoryError" for cause in causes):  # of torch or of Ray's memory monitor
        raise StageFailed(
            f"{name}: out of memory", "training", "lower train.micro_batch_size or train.max_pack, or use more workers a group"
        )


def check_feasible(num_workers: int, use_gpu: bool) -> None:
    """Refuse a group that the cluster could not hold even when idle."""
    import ray

    total = ray.cluster_resources()
    for resource, needed in (("CPU", num_workers), ("GPU", num_workers if use_gpu else 0)):
        if needed > total.get(resource, 0):
            raise EnvironmentFault(
                f"a group of {num_workers} workers needs {needed} {resource}, the cluster has {total.get(resource, 0):g}",
                "ray cluster",
                "lower train.num_workers or train.workers_per_group, or raise ray.num_cpus (logical CPUs may exceed the cores)",
            )


def _cuda_in_cluster() -> bool:
    import ray

    return any(name.startswith("accelerator_type:") for name in ray.cluster_resources())


def _causes(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    for worker_error in getattr(error, "worker_failures", {}).values():
        link: BaseException | None = worker_error
        while link is not None and link not in found:
            found.append(link)
            link = getattr(link, "cause", None) or link.__cause__
    return found


def _last_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
