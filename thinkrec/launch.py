"""One Ray Train job: the single door through which every stage that trains meets Ray Train V2.

Results travel through files, never through `report()`: Ray's controller takes one report per worker and poll (2 s), and a rerun under an
old run name returns the old result without training. So every try gets a name of its own, and resuming is the business of the train
function, which finds its own checkpoints.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from thinkrec.config import FaultsSection
from thinkrec.errors import EnvironmentFault, ThinkrecError
from thinkrec.failures import TABLE, Hang, classify
from thinkrec.journal import Journal

ONCE = FaultsSection(**{failure.name: 0 for failure in TABLE if failure.action != "stop"})  # whatever happens, nothing is tried again


def fit(
    function: Callable[[dict[str, Any]], None],
    settings: Mapping[str, Any],
    *,
    name: str,
    root: str,
    num_workers: int,
    use_gpu: bool,
    faults: FaultsSection = ONCE,
) -> None:
    """Run `function(settings)` on a worker group of the run at `root` and wait; it resumes by itself.

    When the group dies it is run again, as often as the class of its failure allows. The settings the function gets also hold `watchdog`,
    the arguments of a train.watchdog.Watchdog. A ThinkrecError raised by a worker comes back as itself, at once. Raises EnvironmentFault
    when the cluster can never hold the group (Ray itself would wait for ever), and what failures.TABLE says when it dies for good.
    """
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    check_feasible(num_workers, use_gpu)
    folder, spent, avoided = f"{root}/ray", Counter[str](), set[str]()
    while True:
        run_name = f"{name}-{uuid.uuid4().hex[:8]}"
        note = "" if "://" in folder else f"{folder}/hang-{run_name}"
        trainer = TorchTrainer(
            _placed(function),
            train_loop_config={**settings, "watchdog": (note, faults.hang_s)},
            # Logical GPUs on a CPU machine, too, need gloo: only a visible CUDA device makes nccl possible.
            torch_config=TorchConfig(backend="nccl" if use_gpu and _cuda_in_cluster() else "gloo"),
            scaling_config=ray.train.ScalingConfig(
                num_workers=num_workers,
                use_gpu=use_gpu,
                resources_per_worker={"CPU": 1, "GPU": 1} if use_gpu else {"CPU": 1},
                label_selector={"ray.io/node-id": f"!in({','.join(sorted(avoided))})"} if avoided else None,
            ),
            # Ray's own retries would do a wrong run file or a NaN over again, too.
            run_config=ray.train.RunConfig(name=run_name, storage_path=folder),
        )
        try:
            trainer.fit()
            return
        except ray.train.TrainingFailedError as error:
            failure, cause = classify([*_causes(error), *_hangs(note)] or [error])
            spent[failure.name] += 1
            reason = f"{failure.name.replace('_', ' ')}: {_last_line(cause)}"
            Journal(root)("group failed", group=name, failure=failure.name, action=failure.action, times=spent[failure.name], reason=reason)
            if failure.action == "stop" or spent[failure.name] > getattr(faults, failure.name):
                if isinstance(cause, ThinkrecError):
                    raise cause from None
                raise failure.raises(f"{name}: {reason}", folder, failure.mend) from error
            if failure.action == "avoid node":
                avoided |= {getattr(cause, "node_id", "")} - {""}


def _placed(function: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    """The same train function, whose errors know as `node_id` on which node they were raised."""

    def run(settings: dict[str, Any]) -> None:
        import ray

        try:
            function(settings)
        except Exception as error:
            error.node_id = ray.get_runtime_context().get_node_id()  # type: ignore[attr-defined]
            raise

    return run


def _hangs(note: str) -> list[Hang]:
    """What the watchdogs of a group's workers noted (train/watchdog.py): a worker that ended itself left a note that is not empty."""
    notes = sorted(Path(note).parent.glob(f"{Path(note).name}.*")) if note else []
    return [Hang(f"{file}: no step for too long, see there where the threads stood") for file in notes if file.stat().st_size]


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
            link = getattr(link, "cause", None) or getattr(link, "health_check_failure", None) or link.__cause__
    return found


def _last_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
