"""The graph of a refresh: that of a run, in which some stages are yesterday's, and some go on from what yesterday's have made.

yesterday's   base, teachers, traces, global adapter, projector
going on      ingest, encode, cluster, experts: each also has what it was yesterday among its inputs, as NAME-before
as in a run   keywords (the ledger asks for new items alone), prior, instances, score, references, evaluate
added         score-before, the newest day's rows by yesterday's model, and promotion
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from thinkrec.config.run import Config
from thinkrec.pipeline.graph import Graph, Node, Place
from thinkrec.pipeline.keys import stage_key
from thinkrec.pipeline.stages import STAGES, Stage
from thinkrec.store.artefacts import Artefact

KEPT = ("extractor", "base", "teacher", "traces-first", "traces", "instances-first", "global-first", "global", "projector")
SERVED = ("encode", "cluster", "experts")  # of yesterday's, by score-before; the global adapter and the projector are the same
BEFORE = {  # stage: which of yesterday's artefacts it goes on from, or is held against
    "ingest": ("ingest",),
    "encode": ("ingest", "encode", "cluster"),
    "cluster": ("ingest", "cluster"),
    "experts": ("experts",),
}


def refresh_graph(config: Config, yesterday: Mapping[str, Artefact]) -> Graph:
    """The nodes that a refresh makes, by yesterday's artefacts; raises MissingFileError for a log that is not there."""
    places: dict[str, Place] = {stage: (stage, yesterday[stage].key) for stage in KEPT if stage in yesterday}
    graph = Graph()
    for stage in rows(config):
        settings = _settings(config, stage.name)
        needed = {need: places[need] for need in stage.inputs(config) if need in places}
        if stage.name == "score-before":
            needed |= {name: (name, yesterday[name].key) for name in SERVED}
        if stage.name == "promotion":
            needed = {name: places[name] for name in ("score", "score-before")}
        needed |= {f"{name}-before": (name, yesterday[name].key) for name in BEFORE.get(stage.name, ())}
        key = stage_key(stage, settings, [key for _, key in needed.values()])
        places[stage.name] = (stage.name, key)
        graph[places[stage.name]] = Node(stage, key, needed, settings)
    return graph


def is_taken_in(config: Config, yesterday: Mapping[str, Artefact]) -> bool:
    """Whether the newest day of the run is this very log."""
    ingest = yesterday["ingest"]
    before = ingest.manifest["inputs"].get("ingest-before")
    stage = next(stage for stage in rows(config) if stage.name == "ingest")
    return before is not None and stage_key(stage, _settings(config, "ingest"), [before["key"]]) == ingest.key


def rows(config: Config) -> list[Stage]:
    """The stages that a refresh makes, in order."""
    table = {stage.name: stage for stage in STAGES if stage.is_in(config) and stage.name not in KEPT}
    for name, module, more, files in GOING_ON:
        table[name] = replace(table[name], module=module, reads=(*table[name].reads, *more), files=files)
    judged = table.pop("evaluate")
    table["score-before"] = replace(table["score"], name="score-before")
    table["promotion"] = PROMOTION
    return [*table.values(), judged]


GOING_ON = (  # stage, module, what it reads beside the settings of the run's own stage, files
    ("ingest", "thinkrec.data.append", ("refresh.path", "refresh.items_path"), ("refresh.path", "refresh.items_path")),
    ("encode", "thinkrec.encoder.fold_in", (), ()),
    ("cluster", "thinkrec.routing.reroute", (), ()),
    ("experts", "thinkrec.train.fleet.trained_on", ("refresh.moved_share", "refresh.proximal"), ("train.ds_config",)),
)
PROMOTION = Stage("promotion", "thinkrec.evaluate.promotion", (), ("evaluate.num_bootstrap", "run.seed"))


def _settings(config: Config, stage: str) -> Config:
    """The run file as a stage of a refresh has it: experts train on for a few steps, and yesterday's model explains little."""
    if stage == "ingest":
        items = config.refresh.items_path or config.data.items_path
        return config.model_copy(update={"refresh": config.refresh.model_copy(update={"items_path": items})})
    if stage == "experts":
        phase = config.train.experts
        steps = min(config.refresh.num_steps, phase.max_steps or config.refresh.num_steps)
        return config.model_copy(
            update={"train": config.train.model_copy(update={"experts": phase.model_copy(update={"max_steps": steps})})}
        )
    if stage == "score-before":
        return config.model_copy(update={"evaluate": config.evaluate.model_copy(update={"num_explanations": 1})})
    return config
