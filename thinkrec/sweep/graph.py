"""All stages of all trials as one graph: what has the same key is one node, made once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from thinkrec.pipeline.graph import Graph, Place, graph_of
from thinkrec.pipeline.keys import stage_keys
from thinkrec.pipeline.stages import select_stages
from thinkrec.store.artefacts import Store
from thinkrec.sweep.trials import LENT, Sweep, Trial


def places(trials: Sequence[Trial]) -> dict[str, dict[str, Place]]:
    """Trial -> stage -> where the stage's artefact is or will be; raises MissingFileError for a user's file that is not there."""
    keys = {trial.name: stage_keys(trial.config) for trial in trials if not trial.model_of}
    for trial in (trial for trial in trials if trial.model_of):
        keys[trial.name] = stage_keys(trial.config, _lent(keys[trial.model_of]))
    return {trial.name: {stage: (stage, key) for stage, key in keys[trial.name].items()} for trial in trials}


def _lent(keys: Mapping[str, str]) -> dict[str, str]:
    return {stage: key for stage, key in keys.items() if stage in LENT}


def graph(trials: Sequence[Trial], where: Mapping[str, Mapping[str, Place]]) -> Graph:
    """Every node once, what a trial needs before what builds on it; `where` as from `places`."""
    nodes: Graph = {}
    for trial in sorted(trials, key=lambda trial: bool(trial.model_of)):  # lenders first: what they lend is made by their settings
        keys = dict(where[trial.name].values())
        for place, node in graph_of(trial.config, keys, select_stages(trial.config), trial.name).items():
            nodes.setdefault(place, node)
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
            maker = nodes[place].trial
            says = "committed" if place in committed else "to do" if maker == name else f"from {maker}"
            found.setdefault(says, []).append(stage)
        lines += [f"  {says:<20} {' '.join(names)}" for says, names in found.items()]
    asked = sum(map(len, where.values()))
    lines.append(
        f"{asked} stages asked for, {len(nodes)} of them different, {len(committed)} committed, {len(nodes) - len(committed)} to do"
    )
    return "\n".join(lines)
