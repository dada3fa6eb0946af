"""Stage "experts": one adapter per user cluster, each started from the global one, all groups training at the same time.

The driver cuts the experts into packs and starts one Ray Train job per group from a thread of its own. A group loads the frozen base once
and then takes pack after pack from the fleet's queue (group.py); each finished expert is committed as an artefact of its own, so a killed
run goes on with the rest, and one that fails for good does not take the others with it.
"""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from thinkrec.data.audit import enforce
from thinkrec.data.audit_artefacts import audit_artefacts
from thinkrec.errors import StageFailed, ThinkrecError, UserError
from thinkrec.job import Job
from thinkrec.launch import check_feasible, fit
from thinkrec.model.tables import Places, load_tables
from thinkrec.store import Artefact, digest, write_json
from thinkrec.train.fleet import Pack, Queue, pack_limit, packs
from thinkrec.train.group import STAGE, clusters_of, train_group
from thinkrec.train.instances import train_positions

NUM_SAMPLED = 64  # train rows of a cluster whose prompts are written out to know their length


def run(job: Job) -> None:
    """Train what is not committed yet, then gather all experts and their timeline; inputs as for projector, plus cluster and projector.

    One cluster is the run without experts: its router serves everybody by the global adapter, so there is nothing to train.
    """
    if job.inputs["cluster"].figures["num_clusters"] == 1:
        job.draft.figures["used"] = False
        return
    enforce(audit_artefacts(job.inputs), job.config.split.allow_leaks)
    costs = tokens_per_cluster(job)
    keys = {expert: expert_key(job.key, expert) for expert in costs}
    committed = [expert for expert, key in keys.items() if job.store.find(STAGE, key)]
    if committed:
        job.say("experts already committed", experts=committed)
    missing = {expert: cost for expert, cost in costs.items() if expert not in committed}
    if missing:
        _train_fleet(job, missing, keys)
    _gather(job, keys)


def expert_key(stage_key: str, expert: int) -> str:
    """The artefact key of one expert: the stage's own key and the cluster's number."""
    return digest([stage_key, expert])[: len(stage_key)]


def tokens_per_cluster(job: Job) -> dict[int, float]:
    """What each expert costs: the rows its steps will show times the mean prompt tokens of a few of its rows.

    Rows alone mislead: users of long histories, who cluster together, have longer prompts. A cluster without train rows gets no expert.
    """
    places, phase = Places(job.places()), job.config.train.experts
    tables = load_tables(job.config, places)
    positions = train_positions(tables)
    cluster = clusters_of(places, tables.interactions.user_ids)[tables.interactions.user[positions]]
    costs = {}
    for expert in np.unique(cluster[cluster >= 0]):
        rows = positions[cluster == expert]
        shown = phase.num_epochs * len(rows)
        if phase.max_steps:
            shown = min(shown, phase.max_steps * phase.batch_size)
        sampled = rows[np.linspace(0, len(rows) - 1, min(len(rows), NUM_SAMPLED)).astype(int)]
        costs[int(expert)] = float(shown * np.mean([len(tables.prompt(int(row)).ids) for row in sampled]))
    return costs


def _train_fleet(job: Job, costs: dict[int, float], keys: dict[int, str]) -> None:
    import ray

    train = job.config.train
    num_groups = min(train.num_groups, len(costs))
    check_feasible(num_groups * train.workers_per_group, train.use_gpu)
    made = packs(costs, num_groups, pack_limit(train, len(costs)))
    job.say("fleet", num_groups=num_groups, packs=[pack.experts for pack in made])
    queue = ray.remote(num_cpus=0)(Queue).remote(made)
    settings = {
        "config": job.config.model_dump(),
        "places": job.places(),
        "root": job.store.root,
        "keys": keys,
        "queue": queue,
        "num_slots": max(len(pack.experts) for pack in made),
    }

    def drive(group: int) -> list[ThinkrecError]:
        """Keep one group at work while there is any; what fails for good is set aside, and the error kept for the end."""
        failures: list[ThinkrecError] = []
        while ray.get(queue.has_work.remote(group)):
            try:
                fit(
                    train_group,
                    {**settings, "group": group},
                    name=f"experts-group-{group}",
                    root=job.store.root,
                    num_workers=train.workers_per_group,
                    use_gpu=train.use_gpu,
                    faults=job.config.faults,
                )
            except UserError:
                ray.get(queue.close.remote())  # the other groups end what they hold
                raise
            except ThinkrecError as error:
                failures.append(error)
                held: Pack | None = ray.get(queue.fail.remote(group))
                job.say("pack failed", group=group, experts=held.experts if held else (), error=str(error))
                if held is None:
                    break  # it failed before it took anything, and would again
        return failures

    with ThreadPoolExecutor(num_groups) as threads:
        failures = [error for found in threads.map(drive, range(num_groups)) for error in found]
    lost = [expert for expert in costs if not job.store.find(STAGE, keys[expert])]
    if lost:
        reason = str(failures[0]) if failures else "no group took them"
        raise StageFailed(f"experts {lost} are not trained: {reason}", "experts", "run the same command again; committed experts are kept")


def _gather(job: Job, keys: dict[int, str]) -> None:
    """Copy every committed expert into one artefact, with the timeline of who trained when."""
    experts: dict[int, Artefact] = {}
    for expert, key in keys.items():
        artefact = job.store.find(STAGE, key)
        assert artefact is not None
        artefact.verify()
        experts[expert] = artefact
        shutil.copytree(artefact.path("adapter"), Path(job.draft.folder) / "experts" / str(expert))
        shutil.copy(artefact.path("log.jsonl"), Path(job.draft.folder) / "experts" / str(expert) / "log.jsonl")
    begun = min(artefact.figures["started_at"] for artefact in experts.values())
    timeline = [
        {
            "expert": str(expert),
            "group": artefact.figures["group"],
            "start_s": artefact.figures["started_at"] - begun,
            "end_s": artefact.figures["ended_at"] - begun,
            **{name: artefact.figures[name] for name in ("num_steps", "num_rows", "num_traces", "pack")},
        }
        for expert, artefact in experts.items()
    ]
    write_json(f"{job.draft.folder}/timeline.json", timeline)
    job.draft.figures.update(num_experts=len(experts), timeline=timeline)
