"""Stage "experts": one adapter per user cluster, each started from the global one, all groups training at the same time.

The driver cuts the experts into packs and starts one Ray Train job per group from a thread of its own. A group loads the frozen base once
and then takes pack after pack from the fleet's queue (group.py); each finished expert is committed as an artefact of its own, so a killed
run goes on with the rest, and one that fails for good does not take the others with it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from thinkrec.artefacts.adapters import ExpertSpan, copy_expert, write_timeline
from thinkrec.artefacts.instances import Form, read_instance_facts
from thinkrec.data.audit.artefacts import audit_artefacts
from thinkrec.data.audit.log import enforce
from thinkrec.distributed.placement import needs, nodes, require, strategy
from thinkrec.distributed.worker_group import RunOnWorkers, run_on_workers
from thinkrec.errors import EnvironmentFault, Interrupted, StageFailed, ThinkrecError, UserError
from thinkrec.events import Event, ExpertsCommitted, FleetDone, FleetStarted, GroupLost, PackDone, PackFailed, Warned
from thinkrec.job import Job
from thinkrec.prompt.catalogue import ArtefactPaths
from thinkrec.store.artefacts import Artefact, digest
from thinkrec.train.fleet.actor import FleetActor
from thinkrec.train.fleet.group import STAGE, FleetTask, GroupTask, clustered, train_group
from thinkrec.train.fleet.queue import Pack, pack_limit, packs
from thinkrec.train.parts import Parts

if TYPE_CHECKING:
    from ray.actor import ActorHandle

RELAY_S = 1.0  # between two looks into the letter box of the groups


def run(job: Job) -> None:
    """Train what is not committed yet, then gather all experts and their timeline; inputs as for global, cluster and projector.

    One cluster is the run without experts: its router serves everybody by the global adapter, so there is nothing to train.
    """
    if job.inputs["cluster"].figures["num_clusters"] == 1:
        job.draft.figures["used"] = False
        return
    enforce(audit_artefacts(job.inputs), job.config.split.allow_leaks)
    gather(job, train_missing(job, *tokens_per_cluster(job)))


def train_missing(job: Job, costs: dict[int, float], row_tokens: float) -> dict[int, str]:
    """Train the experts with these costs that are not committed yet; returns the keys of all of them. A row has about `row_tokens`."""
    keys = {expert: expert_key(job.key, expert) for expert in costs}
    committed = [expert for expert, key in keys.items() if job.store.find(STAGE, key)]
    if committed:
        job.report(ExpertsCommitted(tuple(committed)))
    missing = {expert: cost for expert, cost in costs.items() if expert not in committed}
    if missing:
        train_fleet(job, missing, keys, row_tokens)
    return keys


def expert_key(stage_key: str, expert: int) -> str:
    """The artefact key of one expert: the stage's own key and the cluster's number."""
    return digest([stage_key, expert])[: len(stage_key)]


def tokens_per_cluster(job: Job) -> tuple[dict[int, float], float]:
    """What each expert costs: the rows its steps will show times the mean prompt tokens of its rows, each with its share of the history;
    and that mean over all.

    Rows alone mislead: users of long histories, who cluster together, have longer prompts. A cluster without train rows gets no expert.
    """
    places, phase, facts = ArtefactPaths(job.places()), job.config.train.experts, read_instance_facts(job.inputs["instances"].path())
    form: Form = "plain" if job.config.prompt.slots == "none" else "soft"
    [own] = clustered(places, Parts.stored(job.inputs["instances"].path(), form, "rows", facts))
    rows, tokens = own.counts.sum(1), own.tokens().sum(1)
    costs, num_rows = {}, 0.0
    for expert in np.flatnonzero(rows):
        shown = phase.num_epochs * float(rows[expert])
        if phase.max_steps:
            shown = min(shown, phase.max_steps * phase.batch_size)
        costs[int(expert)] = shown * float(tokens[expert] / rows[expert])
        num_rows += shown
    return costs, sum(costs.values()) / max(1.0, num_rows)


def train_fleet(job: Job, costs: dict[int, float], keys: dict[int, str], row_tokens: float, run: RunOnWorkers = run_on_workers) -> None:
    """All groups at work until no pack is left; `run` starts a group and waits for it. A row has about `row_tokens`.

    Raises EnvironmentFault if no group found room, StageFailed if an expert is missing.
    """
    import ray

    train = job.config.train
    num_groups, worker, begun = min(train.num_groups, len(costs)), needs(train.use_gpu), time.monotonic()
    require(there := nodes(), num_groups, train.workers_per_group, worker)
    made = packs(costs, num_groups, pack_limit(train, len(costs), row_tokens))
    placed = strategy(there, num_groups, train.workers_per_group, worker)
    job.report(FleetStarted(num_groups, train.workers_per_group, placed, tuple(pack.experts for pack in made), costs))
    if placed == "PACK":
        job.report(Warned("not every group fits inside a node: some gather weights over the network"))
    fleet = ray.remote(num_cpus=0)(FleetActor).remote(made)
    places, num_slots = ArtefactPaths(job.places()), max(len(pack.experts) for pack in made)
    tasks = [GroupTask(job.config, places, job.store.root, group, keys, num_slots) for group in range(num_groups)]
    with ThreadPoolExecutor(num_groups) as threads:
        drives = [threads.submit(_drive, job, FleetTask(task, fleet), num_groups, run) for task in tasks]
        busy_s = 0.0
        while wait(drives, timeout=RELAY_S).not_done:
            busy_s += _relay(job, fleet)
        busy_s += _relay(job, fleet)
    makespan_s = time.monotonic() - begun
    done = FleetDone(makespan_s, idle_share=1 - busy_s / (num_groups * makespan_s))
    job.draft.figures |= done.fields()
    job.report(done)
    _check_complete([expert for expert in costs if not job.store.find(STAGE, keys[expert])], len(costs), drives)


def _check_complete(lost: list[int], num_experts: int, drives: Sequence[Future[list[ThinkrecError]]]) -> None:
    """Raise what kept these experts from being trained, if there are any."""
    failures = [error for drive in drives for error in drive.result()]
    if lost:
        if failures and len(lost) == num_experts and all(isinstance(error, EnvironmentFault) for error in failures):
            raise failures[0]
        reason = str(failures[0]) if failures else "no group took them"
        raise StageFailed(f"experts {lost} are not trained: {reason}", "experts", "run the same command again; committed experts are kept")


def _drive(job: Job, task: FleetTask, num_groups: int, run: RunOnWorkers) -> list[ThinkrecError]:
    """Keep one group at work while there is any; what fails for good is set aside, and the error kept for the end."""
    import ray

    train, fleet, group, failures = job.config.train, task.fleet, task.group.number, list[ThinkrecError]()
    while ray.get(fleet.has_work.remote(group)):
        try:
            run(
                train_group,
                task,
                name=f"experts-group-{group}",
                root=job.store.root,
                num_workers=train.workers_per_group,
                use_gpu=train.use_gpu,
                faults=job.config.faults,
                num_groups=num_groups,
            )
        except (UserError, Interrupted):
            ray.get(fleet.close.remote())  # the other groups end what they hold
            raise
        except EnvironmentFault as error:
            failures.append(error)
            given: Pack | None = ray.get(fleet.give_back.remote(group))
            job.report(GroupLost(group, given.experts if given else (), str(error)))
            break
        except ThinkrecError as error:
            failures.append(error)
            held: Pack | None = ray.get(fleet.fail.remote(group))
            job.report(PackFailed(group, held.experts if held else (), str(error)))
            if held is None:
                break  # it failed before it took anything, and would again
    return failures


def _relay(job: Job, fleet: ActorHandle[FleetActor]) -> float:
    """Report what the groups reported since the last time; returns how long they were busy with the packs that ended meanwhile."""
    import ray

    events: list[Event] = ray.get(fleet.drain.remote())
    for event in events:
        job.report(event)
    return sum(event.busy_s for event in events if isinstance(event, PackDone))


def gather(job: Job, keys: dict[int, str]) -> None:
    """Copy every committed expert into one artefact, with the timeline of who trained when."""
    experts: dict[int, Artefact] = {}
    for expert, key in keys.items():
        artefact = job.store.find(STAGE, key)
        assert artefact is not None
        artefact.verify()
        experts[expert] = artefact
        copy_expert(artefact.path(), job.draft.local(), expert)
    begun = min((artefact.figures["started_at"] for artefact in experts.values()), default=0.0)
    timeline = [
        ExpertSpan(
            expert=str(expert),
            group=artefact.figures["group"],
            start_s=artefact.figures["started_at"] - begun,
            end_s=artefact.figures["ended_at"] - begun,
            **{name: artefact.figures[name] for name in ("num_steps", "num_rows", "num_traces", "pack")},
        )
        for expert, artefact in experts.items()
    ]
    write_timeline(job.draft.local(), timeline)
    job.draft.figures.update(num_experts=len(experts), timeline=[asdict(span) for span in timeline])
