"""The canary: a few pairs whose scores a package tells, so that a server can see at start whether its model is the one that was packaged.

Each adapter is heard alone, and the base without any. Engines that drop adapters answer with plausible scores, those of the base: such a
server is refused, however well it answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from thinkrec.artefacts.ingest import read_num_buckets
from thinkrec.artefacts.package import Canary
from thinkrec.data.interactions import Interactions
from thinkrec.errors import PackageError
from thinkrec.recommend.histories import of_users
from thinkrec.recommend.ranker import Ranker
from thinkrec.score.scorer import NOTHING

BASE, SERVED = "base", "served"
NUM_USERS, NUM_ITEMS = 3, 3  # each user is asked about each item
# Of a score, or of 1 where it is smaller. In bfloat16 hidden states are rounded to 8 bits, in another order on every device.
TOLERANCES = {"float32": 1e-5, "bfloat16": 0.1}
IDLE = 1e-5  # an adapter that moves no score by more does nothing
# Of the told move, in its direction over all pairs: rounding evens out there, and an adapter that is dropped has a share of 0.
LEAST_SHARE = 0.5
LEAST_MOVE = 4.0  # times the rounding: a smaller move cannot be told from it
Scores = dict[str, NDArray[np.float32]]


def measure(ranker: Ranker) -> Canary:
    """What this model says about items spread over the catalogue to users spread over a bucket; raises PackageError for an idle adapter."""
    ingest = ranker.places.path("ingest")
    logs = (Interactions.load(ingest, buckets=[bucket]) for bucket in range(read_num_buckets(ingest)))
    users = next((log.user_ids for log in logs if log.user_ids), [])
    asked = _spread(users, NUM_USERS), _spread(ranker.items.item_ids, NUM_ITEMS)
    scores = _scores(ranker, *asked)
    for name, move in _moves(scores).items():
        if np.abs(move).max() <= IDLE:
            raise PackageError(f"the adapter {name} does not move the scores of the base", "package", "look at how it was trained")
    return Canary(*asked, {name: found.tolist() for name, found in scores.items()})


def check(ranker: Ranker, canary: Canary, where: str) -> None:
    """Raise PackageError unless each adapter moves the scores as the canary tells, and all scores are those it tells."""
    found, tolerance = _scores(ranker, canary.user_ids, canary.item_ids), TOLERANCES[ranker.config.base.dtype]
    if canary.scores.keys() != found.keys() or any(len(canary.scores[name]) != len(found[name]) for name in found):
        names = ", ".join(canary.scores)
        raise PackageError(f"the canary tells scores of {names}, the model has {', '.join(found)}", where, "package it again")
    told, moves = {name: np.array(scores) for name, scores in canary.scores.items()}, _moves(found)
    rounding = np.abs(found[BASE] - told[BASE]).max()  # of this machine against that of the package
    for name, move in _moves(told).items():
        share = float(moves[name] @ move / (move @ move))
        if not share > LEAST_SHARE and np.abs(move).max() > LEAST_MOVE * rounding:
            what = f"the adapter {name} is not applied: it moves the scores of the base by {share:.0%} of what the package tells"
            raise PackageError(
                what, where, "do not serve with this version of torch, transformers or thinkrec; package.json lists those it had"
            )
    for name, wanted in told.items():
        gap = np.abs(found[name] - wanted) / np.maximum(1, np.abs(wanted))
        if not (gap <= tolerance).all():  # NaN is not
            what = f"scores of {name} are {gap.max():.2g} away from what the package tells, {tolerance:g} is allowed"
            raise PackageError(what, where, "use the versions of torch and transformers that package.json lists, or package again")


def _scores(ranker: Ranker, user_ids: Sequence[str], item_ids: Sequence[str]) -> Scores:
    """Of each user with each item the score by the base alone, by each adapter alone, and as it is served."""
    item_at = {item: at for at, item in enumerate(ranker.items.item_ids)}
    if strange := [item for item in item_ids if item not in item_at]:
        raise PackageError(f"the canary asks about {strange[0]!r}, which is not in the package", "package.json", "package it again")
    log = of_users(Interactions.load(ranker.places.path("ingest"), users=set(user_ids)), user_ids)
    candidates = [np.array([item_at[item] for item in item_ids], np.int64)] * len(user_ids)
    questions = ranker.questions(log, candidates)
    owners = [user for user in range(len(user_ids)) for _ in item_ids]
    prompts = [prompt for user in range(len(user_ids)) for prompt in questions.prompts(user)]
    num_adapters = questions.gates.shape[1]
    alone = {"global": num_adapters - 1} | {f"expert-{expert}": expert for expert in range(num_adapters - 1)}
    gates = {BASE: np.zeros(num_adapters, np.float32)} | {name: np.eye(num_adapters, dtype=np.float32)[at] for name, at in alone.items()}
    rows = np.concatenate([np.tile(own, (len(prompts), 1)) for own in gates.values()])
    scores = ranker.scorer(questions).scores(prompts * len(gates), owners * len(gates), rows, [NOTHING] * len(rows))
    found = dict(zip(gates, np.split(scores, len(gates)), strict=True))
    return found | {SERVED: np.concatenate(ranker.rank(log, candidates).score)}


def _moves(scores: Mapping[str, NDArray[np.floating]]) -> dict[str, NDArray[np.float64]]:
    """By how much each adapter moves the scores of the base."""
    return {name: own.astype(np.float64) - scores[BASE] for name, own in scores.items() if name not in (BASE, SERVED)}


def _spread(ids: Sequence[str], count: int) -> list[str]:
    """At most `count` of them, evenly spread."""
    return [ids[at] for at in np.unique(np.linspace(0, len(ids) - 1, count).astype(int))]
