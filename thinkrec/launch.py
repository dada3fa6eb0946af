"""One Ray Train job: the single door through which every stage that trains meets Ray Train V2.

Results travel through files, never through `report()`: Ray's controller takes one report per worker and poll (2 s), and a rerun under an
old run name returns the old result without training. So every try gets a name of its own, and resuming is the business of the train
function, which finds its own checkpoints.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from thinkrec.errors import StageFailed, ThinkrecError
from thinkrec.placement import free_nodes, lacking, needs, nodes, require, strategy

ORPHANS_S = 20.0  # how long a controller may take to die


def fit(
    function: Callable[[dict[str, Any]], None],
    settings: Mapping[str, Any],
    *,
    name: str,
    folder: str,
    num_workers: int,
    use_gpu: bool,
    max_failures: int = 0,
    num_groups: int = 1,
) -> None:
    """Run `function(settings)` on a worker group and wait, again up to `max_failures` times if it dies; it resumes by itself.

    The group is a placement group inside one node where the caller's `num_groups` groups of this size fit so, else over several. A
    ThinkrecError raised by a worker comes back as itself, at once. Raises EnvironmentFault when the cluster can never hold the group
    (Ray itself would wait for ever) or has no room within `ray.resource_timeout_s`, StageFailed when it dies for good or lacks memory.
    """
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    worker = needs(use_gpu)
    require(nodes(), 1, num_workers, worker)
    for failures in range(max_failures + 1):
        trainer = TorchTrainer(
            function,
            train_loop_config=dict(settings),
            # Logical GPUs on a CPU machine, too, need gloo: only a visible CUDA device makes nccl possible.
            torch_config=TorchConfig(backend="nccl" if use_gpu and _cuda_in_cluster() else "gloo"),
            scaling_config=ray.train.ScalingConfig(
                num_workers=num_workers,
                use_gpu=use_gpu,
                resources_per_worker=dict(worker),
                placement_strategy=strategy(nodes(), num_groups, num_workers, worker),
            ),
            run_config=ray.train.RunConfig(
                name=f"{name}-{uuid.uuid4().hex[:8]}",
                storage_path=folder,
                # Ray's own retries would do a wrong run file or a NaN over again, too, and wait for room for ever.
                failure_config=ray.train.FailureConfig(max_failures=0, controller_failure_limit=0),
            ),
        )
        try:
            trainer.fit()
            return
        except ray.train.TrainingFailedError as error:
            causes = _causes(error)
            if any(type(cause).__name__ == "WorkerGroupStartupTimeoutError" for cause in causes):
                raise lacking("ray.resource_timeout_s passed without room for", free_nodes(), 1, num_workers, worker) from None
            if isinstance(error, ray.train.ControllerError):
                _free_orphans()
            _raise_if_final(causes, name)
            if failures == max_failures:
                raise StageFailed(
                    f"{name}: the worker group failed: {_last_line(error)}", folder, "run the same command again to resume"
                ) from error


def _free_orphans() -> None:
    """Remove placement groups whose controller is dead: one that fails while its workers start leaves its own behind until the job ends.

    The controller dies some moments after `fit` has raised.
    """
    import ray
    from ray._private import state
    from ray.core.generated import gcs_pb2
    from ray.util.placement_group import PlacementGroup, remove_placement_group

    removed, job = gcs_pb2.PlacementGroupTableData.REMOVED, ray.JobID.from_hex(ray.get_runtime_context().get_job_id())
    deadline = time.monotonic() + ORPHANS_S
    while time.monotonic() < deadline:
        dead = set(state.actors(job_id=job, actor_state_name="DEAD"))
        rows = map(gcs_pb2.PlacementGroupTableData.FromString, state.state._connect_and_get_accessor().get_placement_group_table())
        orphans = [row for row in rows if row.state != removed and row.creator_actor_id.hex() in dead]
        for row in orphans:
            remove_placement_group(PlacementGroup(ray.PlacementGroupID(row.placement_group_id)))
        if orphans:
            return
        time.sleep(0.2)


def _raise_if_final(causes: list[BaseException], name: str) -> None:
    """What would happen again however often it is tried: an error raised on purpose, or a lack of memory."""
    for cause in causes:
        if isinstance(cause, ThinkrecError):
            raise cause from None
    if any(type(cause).__name__ == "OutOfMemoryError" for cause in causes):  # of torch or of Ray's memory monitor
        raise StageFailed(
            f"{name}: out of memory", "training", "lower train.micro_batch_size or train.max_pack, or use more workers a group"
        )


def _cuda_in_cluster() -> bool:
    import ray

    return any(name.startswith("accelerator_type:") for name in ray.cluster_resources())


def _causes(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    first = [*getattr(error, "worker_failures", {}).values(), getattr(error, "controller_failure", None)]
    for link in first:
        while link is not None and link not in found:
            found.append(link)
            link = getattr(link, "cause", None) or link.__cause__
    return found


def _last_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
