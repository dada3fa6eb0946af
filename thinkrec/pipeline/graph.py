"""The stages of one or several runs as a graph: what has the same key is one node, made once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from thinkrec.config.run import Config
from thinkrec.pipeline.stages import Stage
from thinkrec.store.artefacts import Artefact, Store

Place = tuple[str, str]  # stage and key


@dataclass(frozen=True)
class Node:
    """One artefact to be. `config` and `trial` are those of the first run that needs it; by the key they are as good as any other's."""

    stage: Stage
    key: str
    inputs: Mapping[str, Place]  # by the name of the stage they come from
    config: Config
    trial: str = ""  # of a sweep


Graph = dict[Place, Node]  # what is needed stands before what needs it


def graph_of(config: Config, keys: Mapping[str, str], stages: Sequence[Stage], trial: str = "") -> Graph:
    """The nodes of one run, whose stages have these keys."""
    return {
        (stage.name, keys[stage.name]): Node(
            stage, keys[stage.name], {need: (need, keys[need]) for need in stage.inputs(config)}, config, trial
        )
        for stage in stages
    }


def to_do(graph: Graph, store: Store) -> Graph:
    """The nodes that are not committed."""
    return {place: node for place, node in graph.items() if store.find(*place) is None}


def committed(store: Store, place: Place) -> Artefact:
    """The artefact of a node that is."""
    artefact = store.find(*place)
    assert artefact is not None, place
    return artefact
