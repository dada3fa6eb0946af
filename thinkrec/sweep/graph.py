"""All stages of all trials as one graph: what has the same key is one node, made once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from thinkrec.pipeline import stages
from thinkrec.pipeline.keys import stage_keys
from thinkrec.pipeline.stages import Stage
from thinkrec.store.artefacts import Store
from thinkrec.sweep.trials import LENT, Sweep, Trial

Place = tuple[str, str]  # stage and key


@dataclass(frozen=True)
class Node:
    """One artefact to be. `trial` is the first that needs it: it lends its settings, which are the same for all others by the key."""

    stage: Stage
    key: str
    inputs: Mapping[str, Place]  # by the name of the stage they come from
    trial: Trial


def places(trials: Sequence[Trial]) -> dict[str, dict[str, Place]]:
    """Trial -> stage -> where the stage's artefact is or will be; raises MissingFileError for a user's file that is not there."""
    keys = {trial.name: stage_keys(trial.config) for trial in trials if not trial.model_of}
    for trial in (trial for trial in trials if trial.model_of):
        keys[trial.name] = stage_keys(trial.config, {stage: keys[trial.model_of][stage] for stage in LENT})
    return {trial.name: {stage: (stage, key) for stage, key in keys[trial.name].items()} for trial in trials}


def graph(trials: Sequence[Trial], where: Mapping[str, Mapping[str, Place]]) -> dict[Place, Node]:
    """Every node once, what a trial needs before what builds on it; `where` as from `places`."""
    nodes: dict[Place, Node] = {}
    for trial in sorted(trials, key=lambda trial: bool(trial.model_of)):  # lenders first: what they lend is made by their settings
        mine = where[trial.name]
        for stage in stages.STAGES:
            inputs = {need: mine[need] for need in stage.inputs(trial.config)}
            nodes.setdefault(mine[stage.name], Node(stage, mine[stage.name][1], inputs, trial))
    return nodes


def plan_text(sweep: Sweep) -> str:
    """Trial by trial: which stages it makes, which it shares with an earlier one, which are committed."""
    store, where = Store(sweep.settings.dir), places(sweep.trials)
    nodes = graph(sweep.trials, where)
    references = {trial.reference for trial in sweep.trials}
    committed = {place for place in nodes if store.find(*place)}
    lines = [f"{sweep.settings.title}: {len(sweep.trials)} trials of {sweep.settings.recipe} in {sweep.settings.dir}"]
    for name, mine in where.items():
        lines.append(f"{name} (reference)" if name in references else name)
        found: dict[str, list[str]] = {}
        for stage, place in mine.items():
            maker = nodes[place].trial.name
            says = "committed" if place in committed else "to do" if maker == name else f"from {maker}"
            found.setdefault(says, []).append(stage)
        lines += [f"  {says:<20} {' '.join(names)}" for says, names in found.items()]
    asked = len(sweep.trials) * len(stages.STAGES)
    lines.append(
        f"{asked} stages asked for, {len(nodes)} of them different, {len(committed)} committed, {len(nodes) - len(committed)} to do"
    )
    return "\n".join(lines)
