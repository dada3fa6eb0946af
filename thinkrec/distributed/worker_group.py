"""One Ray Train job: the single door through which every stage that trains meets Ray Train V2.

Results travel through files, never through `report()`: Ray's controller takes one report per worker and poll (2 s), and a rerun under an
old run name returns the old result without training. So every try gets a name of its own, and resuming is the business of the train
function, which finds its own checkpoints.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from thinkrec.config.training import FaultsSection
from thinkrec.distributed.devices import own_device, require_free
from thinkrec.distributed.failures import TABLE, Failure, Hang, classify
from thinkrec.distributed.last_words import last_words, shown
from thinkrec.distributed.placement import free_nodes, lacking, needs, nodes, require, strategy, to_come
from thinkrec.distributed.stopping import leaving_nodes, training
from thinkrec.distributed.watchdog import Watchdog
from thinkrec.errors import ThinkrecError
from thinkrec.events import GroupFailed
from thinkrec.journal import Journal

if TYPE_CHECKING:
    from ray.train import RunConfig, ScalingConfig

ORPHANS_S = 20.0  # how long a controller may take to die
NODE_DEATH_S = 60.0  # Ray's health checks (five in a row, each with its time limit) take this long to call a node dead
ONCE = FaultsSection(**{failure.name: 0 for failure in TABLE if failure.action != "stop"})  # whatever happens, nothing is tried again
T = TypeVar("T")


@dataclass(frozen=True)
class Worker:
    """One process of a worker group. By default the only one of its group, which nobody watches."""

    rank: int = 0
    world_size: int = 1
    watchdog: Watchdog = field(default_factory=Watchdog)

    @property
    def leads(self) -> bool:
        """Whether this is the rank that writes and reports for all."""
        return self.rank == 0


def run_on_workers(
    function: Callable[[Worker, T], None],
    task: T,
    *,
    name: str,
    root: str,
    num_workers: int,
    use_gpu: bool,
    faults: FaultsSection = ONCE,
    num_groups: int = 1,
) -> None:
    """Run `function(worker, task)` in every process of a worker group of the run at `root` and wait; it resumes by itself.

    The group is a placement group inside one node where the caller's `num_groups` groups of this size fit so, else over several. When it
    dies it is run again, as often as the class of its failure allows. The task travels by pickle: a frozen dataclass of plain values. A
    ThinkrecError raised by a worker comes back as itself, at once. Raises EnvironmentFault when the cluster can never hold the group (Ray
    itself would wait for ever) or has no room within `ray.resource_timeout_s`, and what failures.TABLE says when it dies for good.
    """
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    require(nodes(), 1, num_workers, needs(use_gpu))
    folder, spent, avoided = f"{root}/ray", Counter[str](), set[str]()
    while True:
        there = _living()
        run_name = f"{name}-{uuid.uuid4().hex[:8]}"
        note = "" if "://" in folder else f"{folder}/hang-{run_name}"
        trainer = TorchTrainer(
            _placed(function, task, Watchdog(note, faults.hang_s)),
            torch_config=TorchConfig(backend=_backend(use_gpu)),
            scaling_config=_scaling(num_workers, use_gpu, num_groups, avoided),
            run_config=_one_try(run_name, folder),
        )
        try:
            # Off the main thread: there Ray Train takes Ctrl-C for itself, for good, and holds its dead controllers by it.
            with training(run_name), ThreadPoolExecutor(1) as thread:
                thread.submit(trainer.fit).result()
            return
        except ray.train.TrainingFailedError as error:
            causes = [*(found := _causes(error)), *last_words(found), *_hangs(note)] or [error]
            if any(type(cause).__name__ == "WorkerGroupStartupTimeoutError" for cause in causes):
                raise lacking("ray.resource_timeout_s passed without room for", free_nodes(), 1, num_workers, needs(use_gpu)) from None
            if isinstance(error, ray.train.ControllerError):
                _free_orphans()
            failure, cause = classify([*causes, *_lost_nodes(causes, there)])
            spent[failure.name] += 1
            reason = f"{failure.name.replace('_', ' ')}: {_telling_line(failure, cause)}"
            Journal(root)(GroupFailed(name, failure.name, failure.action, spent[failure.name], reason))
            if failure.action == "stop" or spent[failure.name] > getattr(faults, failure.name):
                if isinstance(cause, ThinkrecError):
                    raise cause from None
                raise failure.raises(f"{name}: {reason}{shown(causes)}", folder, failure.fix) from error
            if failure.action == "avoid node":
                avoided |= {getattr(cause, "node_id", "")} - {""}
            avoided |= leaving_nodes()


class RunOnWorkers(Protocol):
    """The signature of `run_on_workers`, for what is handed a way to start groups."""

    def __call__(
        self,
        function: Callable[[Worker, T], None],
        task: T,
        *,
        name: str,
        root: str,
        num_workers: int,
        use_gpu: bool,
        faults: FaultsSection = ...,
        num_groups: int = ...,
    ) -> None: ...


def _one_try(run_name: str, folder: str) -> RunConfig:
    """Ray's own retries would do a wrong run file or a NaN over again, too, and wait for room for ever."""
    import ray.train

    once = ray.train.FailureConfig(max_failures=0, controller_failure_limit=0)
    return ray.train.RunConfig(name=run_name, storage_path=folder, failure_config=once)


def _scaling(num_workers: int, use_gpu: bool, num_groups: int, avoided: Collection[str]) -> ScalingConfig:
    """What Ray Train asks the cluster for, away from the nodes of these ids."""
    import ray.train

    worker = needs(use_gpu)
    return ray.train.ScalingConfig(
        num_workers=num_workers,
        use_gpu=use_gpu,
        resources_per_worker=dict(worker),
        placement_strategy=strategy(nodes(avoided), num_groups, num_workers, worker),
        label_selector={"ray.io/node-id": f"!in({','.join(sorted(avoided))})"} if avoided else None,
    )


def _placed(function: Callable[[Worker, T], None], task: T, watchdog: Watchdog) -> Callable[[], None]:
    """The function of Ray Train for this one, on a GPU that is free; its errors know as `node_id` on which node they were raised."""

    def run() -> None:
        import ray
        import ray.train

        try:
            require_free(own_device())
            context = ray.train.get_context()
            function(Worker(context.get_world_rank(), context.get_world_size(), watchdog), task)
        except Exception as error:
            error.node_id = ray.get_runtime_context().get_node_id()  # type: ignore[attr-defined]
            raise

    return run


def _living() -> set[str]:
    import ray

    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


def _lost_nodes(causes: Collection[BaseException], there: Collection[str]) -> list[BaseException]:
    """The death of a node, if one of these has died: its workers fall silent first, and the next try must not be sent after them."""
    from ray.exceptions import ActorUnavailableError, NodeDiedError

    deadline = time.monotonic() + NODE_DEATH_S
    while any(isinstance(cause, ActorUnavailableError) for cause in causes) and time.monotonic() < deadline:
        if gone := sorted(set(there) - _living()):
            return [NodeDiedError(f"node {gone[0][:8]} has died")]
        time.sleep(0.5)
    return []


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


def _hangs(note: str) -> list[Hang]:
    """What the watchdogs of a group's workers noted (watchdog.py): a worker that ended itself left a note that is not empty."""
    notes = sorted(Path(note).parent.glob(f"{Path(note).name}.*")) if note else []
    return [Hang(f"{file}: no step for too long, see there where the threads stood") for file in notes if file.stat().st_size]


def _backend(use_gpu: bool) -> str:
    """nccl where workers will see CUDA devices: logical GPUs on a CPU machine need gloo, too; what an autoscaler adds has real ones."""
    import ray

    has_cuda = any(name.startswith("accelerator_type:") for name in ray.cluster_resources())
    return "nccl" if use_gpu and (has_cuda or any(kind.room({"GPU": 1}) for kind in to_come())) else "gloo"


def _causes(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    for link in [*getattr(error, "worker_failures", {}).values(), getattr(error, "controller_failure", None)]:
        while link is not None and link not in found:
            found.append(link)
            link = getattr(link, "cause", None) or getattr(link, "health_check_failure", None) or link.__cause__
    return found


def _telling_line(failure: Failure, error: BaseException) -> str:
    """The last line of an error that shows its class, else its last line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if any(piece in line for piece in failure.texts)]
    return (telling or lines or [type(error).__name__])[-1]
