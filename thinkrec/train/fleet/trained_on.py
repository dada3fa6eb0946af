"""The stage `experts` of a refresh: the experts of clusters that moved train on from the weights they have; the others are copied.

What is learned from is all of a cluster's train rows, old and new, so that an expert does not forget; the rows are seen in another order.
"""

from __future__ import annotations

from dataclasses import asdict

from thinkrec.artefacts.adapters import copy_experts, expert_folder
from thinkrec.data.audit.artefacts import audit_artefacts
from thinkrec.data.audit.log import enforce
from thinkrec.job import Job
from thinkrec.routing.reroute import Move
from thinkrec.train.fleet.group import BEFORE
from thinkrec.train.fleet.stage import gather, tokens_per_cluster, train_missing


def run(job: Job) -> None:
    """Fill the draft as the stage `experts` does; inputs: as there, and BEFORE.

    Figures: also the experts that are `trained_on`, those of them that are `new`, those that are `kept`, and the `moves` of the clusters of
    the kept ones since these were trained.
    """
    if job.inputs["cluster"].figures["num_clusters"] == 1:
        job.draft.figures["used"] = False
        return
    enforce(audit_artefacts(job.inputs), job.config.split.allow_leaks)
    before = job.inputs[BEFORE]
    moves = added_up(*([Move(**move) for move in job.inputs[name].figures.get("moves", [])] for name in (BEFORE, "cluster")))
    costs, row_tokens = tokens_per_cluster(job)
    there = [move.cluster for move in moves if expert_folder(before.path(), move.cluster).is_dir()]
    kept = unmoved(moves, [expert for expert in there if expert in costs], job.config.refresh.moved_share)
    kept += [expert for expert in there if expert not in costs]  # nobody is left to learn from
    keys = train_missing(job, {expert: cost for expert, cost in costs.items() if expert not in kept}, row_tokens)
    before.verify()
    copy_experts(before.path(), job.draft.local(), kept)
    gather(job, keys)
    still = [asdict(move) for move in moves if move.cluster in kept]
    new = sorted(keys.keys() - there)
    job.draft.figures.update(num_experts=len(keys) + len(kept), trained_on=sorted(keys), new=new, kept=kept, moves=still)


def added_up(earlier: list[Move], today: list[Move]) -> list[Move]:
    """Today's move of each cluster with what its expert has not learned from earlier days; a day of few rows is not forgotten."""
    known = {move.cluster: move for move in earlier}
    return [move.since(known[move.cluster]) if move.cluster in known else move for move in today]


def unmoved(moves: list[Move], there: list[int], moved_share: float) -> list[int]:
    """The experts that are there and whose clusters have not moved by more than a share of their rows."""
    return [move.cluster for move in moves if move.cluster in there and move.share <= moved_share]
