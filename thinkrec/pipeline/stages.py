"""The table of stages: the whole graph of a run, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import cast

from thinkrec.config.run import Config
from thinkrec.errors import ConfigError
from thinkrec.pipeline.view import View
from thinkrec.prompt import template


@dataclass(frozen=True)
class Stage:
    """One row of the table: the module whose `run(job)` does it, what it needs, and which settings and files decide its result."""

    name: str
    module: str
    needs: tuple[str, ...]
    reads: tuple[str, ...]  # dotted sections or keys of the run file
    files: tuple[str, ...] = ()  # keys of the run file that name the user's own files
    version: int = 1  # raise it when the stage's code starts to compute something else
    switch: str = ""  # key of the run file that turns the stage off: it then makes an empty artefact and needs nothing
    uses: tuple[str, ...] = ()  # what it reads beside `reads`: it decides no result, or is in the key of an input
    only_if: str = ""  # property of the run file without which a run has no such stage
    beside: str = ""  # a stage that this one is made at the same time as, where the cluster has room for both

    def is_in(self, config: Config) -> bool:
        """Whether this run has the stage."""
        return not self.only_if or bool(attrgetter(self.only_if)(config))

    def inputs(self, config: Config) -> tuple[str, ...]:
        """What the stage needs in this run."""
        on = not self.switch or lookup(config.model_dump(), self.switch)
        here = {stage.name for stage in STAGES if stage.is_in(config)}
        return tuple(need for need in self.needs if need in here) if on else ()

    def view(self, config: Config) -> Config:
        """The run file as the stage sees it: a key that its row does not name raises UnlistedSetting."""
        return cast(Config, View(config, (*self.reads, *self.uses)))

    def settings(self, config: Config) -> dict[str, object]:
        """What decides the result, for the key: the settings read, and the version of the prompts where any are written."""
        tree = config.model_dump(mode="json")
        version = {"template": template.TEMPLATE_VERSION} if "prompt" in self.reads and template.TEMPLATE_VERSION > 1 else {}
        return {key: lookup(tree, key) for key in self.reads} | version


ENGINE = (  # how many ask, how fast and where decides no answer
    "engine.kind",
    "engine.http.model",
    "engine.http.chat",
    "engine.vllm.dtype",
    "engine.vllm.kv_cache_dtype",
    "engine.vllm.max_model_len",
)
# What is read and decides no result: resources, patience, how often to save. The buckets of the log are in the key of "ingest".
ASKING = ("engine", "train.use_gpu")
TRAINING = tuple(f"train.{key}" for key in ("num_workers", "use_gpu", "micro_batch_tokens", "checkpoint_every", "num_checkpoints"))
RESOURCES = (*TRAINING, "train.gradient_checkpointing", "faults", "split.allow_leaks", "run.dir")
TEACHING = (*RESOURCES, "engine", "base", "prompt")  # a nano model begins as the base, whose key is that of an input
FLEET = ("train.num_groups", "train.workers_per_group", "train.max_pack", "watch")
PROMPTED = ("prompt", "base.dtype", "run.seed")
LEARNING = (*PROMPTED, "adapter", "train.ds_config", "train.trace_share", "train.loss")
SAMPLED = ("ingest", "keywords", "cluster", "base", "teacher")
TEXTS = ("ingest", "encode", "keywords", "prior", "base")
TAUGHT = ("ingest", "encode", "traces", "base", "instances")
ADAPTERS = ("global", "projector", "experts")
SCORING = ("fusion", "max_rows", "max_valid_rows", "num_explanations")
DS_FILE, NANO_DS_FILE = ("train.ds_config",), ("base.nano.ds_config",)

STAGES = (
    Stage("ingest", "thinkrec.data.ingest", (), ("data", "split", "run.seed"), files=("data.path", "data.items_path"), version=6),
    Stage(
        "encode",
        "thinkrec.encoder.fit",
        ("ingest",),
        ("encoder", "prompt.history_policy", "run.seed"),
        files=("encoder.users_path", "encoder.items_path"),
        version=2,
        uses=("faults", "train.use_gpu"),
    ),
    Stage("cluster", "thinkrec.routing.assign", ("ingest", "encode"), ("cluster", "run.seed"), version=2),
    Stage(
        "extractor",
        "thinkrec.generate.keywords.extractor",
        ("ingest",),
        ("keywords", "engine.kind", "base.nano", "run.seed"),
        NANO_DS_FILE,
        version=2,
        uses=TEACHING,
    ),
    Stage(
        "keywords",
        "thinkrec.generate.keywords.stage",
        ("ingest", "extractor"),
        ("keywords", *ENGINE, "prompt.domain", "run.seed"),
        ("keywords.extractor",),
        version=3,
        uses=ASKING,
    ),
    Stage(
        "prior",
        "thinkrec.prior.stage",
        ("ingest", "keywords"),
        ("prior", "prompt.history_policy", "run.seed"),
        only_if="prior.is_counted",
    ),
    Stage(
        "base",
        "thinkrec.nano.stage",
        ("ingest", "keywords"),
        ("base", "prompt", "run.seed"),
        ("base.path", *NANO_DS_FILE),
        version=3,
        uses=RESOURCES,
    ),
    Stage(
        "teacher",
        "thinkrec.generate.traces.teacher",
        ("ingest", "keywords", "base"),
        ("traces", *ENGINE, "prompt", "base.nano.ds_config", "run.seed"),
        ("traces.teachers", *NANO_DS_FILE),
        version=3,
        switch="traces.enabled",
        uses=TEACHING,
    ),
    Stage(
        "traces-first",
        "thinkrec.generate.traces.first",
        SAMPLED,
        ("traces", *ENGINE, "prompt", "run.seed"),
        only_if="traces.starts_early",
        uses=ASKING,
    ),
    Stage(
        "instances-first",
        "thinkrec.instances.stage",
        (*TEXTS, "traces-first"),
        ("prompt", "traces.enabled"),
        version=2,
        only_if="traces.starts_early",
    ),
    Stage(
        "traces",
        "thinkrec.generate.traces.stage",
        (*SAMPLED, "traces-first"),
        ("traces", *ENGINE, "prompt", "run.seed"),
        version=3,
        switch="traces.enabled",
        uses=ASKING,
    ),
    Stage("instances", "thinkrec.instances.stage", (*TEXTS, "traces"), ("prompt", "traces.enabled"), version=2),
    Stage(
        "global-first",
        "thinkrec.train.global_first",
        ("ingest", "encode", "traces-first", "base", "instances-first"),
        (*LEARNING, "train.global_adapter"),
        DS_FILE,
        version=4,
        only_if="traces.starts_early",
        beside="traces",
        uses=RESOURCES,
    ),
    Stage(
        "global",
        "thinkrec.train.global_adapter",
        (*TAUGHT, "global-first"),
        (*LEARNING, "train.global_adapter"),
        DS_FILE,
        version=5,
        uses=RESOURCES,
    ),
    Stage("projector", "thinkrec.train.projector", (*TAUGHT, "global"), (*LEARNING, "train.projector"), DS_FILE, version=5, uses=RESOURCES),
    Stage(
        "experts",
        "thinkrec.train.fleet.stage",
        (*TAUGHT, "cluster", "global", "projector"),
        (*LEARNING, "train.experts"),
        DS_FILE,
        version=5,
        uses=(*RESOURCES, *FLEET),
    ),
    Stage(
        "score",
        "thinkrec.score.stage",
        (*TEXTS, "cluster", *ADAPTERS),
        (*PROMPTED, "adapter", "train.loss.score", "prior.kind", *(f"evaluate.{key}" for key in SCORING)),
        version=6,
        uses=("engine.num_actors", "evaluate.batch_tokens", "train.gpus_per_scorer", *RESOURCES),
    ),
    Stage(
        "references",
        "thinkrec.generate.traces.references",
        ("ingest", "keywords", "base", "teacher", "score"),
        ("traces", *ENGINE, "prompt", "run.seed"),
        switch="traces.enabled",
        uses=ASKING,
    ),
    Stage(
        "evaluate",
        "thinkrec.evaluate.run_report.stage",
        (
            *("ingest", "encode", "cluster", "extractor", "keywords", "prior", "base", "teacher", "traces-first", "instances-first"),
            *("traces", "instances", "global-first", *ADAPTERS, "score", "references"),
        ),
        ("evaluate", "prompt.history_length", "prompt.history_policy", "prompt.answer", "run.seed"),
        ("evaluate.bert_score_path", "evaluate.bleurt_path"),
        version=5,
        uses=("prompt", "train", "engine", "run.dir"),
    ),
)


def select_stages(config: Config, until: str | None = None) -> list[Stage]:
    """The stages of a run in order, up to and including what `until` needs; raises ConfigError for a name that the run does not have."""
    by_name = {stage.name: stage for stage in STAGES if stage.is_in(config)}
    if until is None:
        return list(by_name.values())
    if until not in by_name:
        raise ConfigError(f"there is no stage {until!r}", "--until", f"stages: {', '.join(by_name)}")
    wanted, frontier = set[str](), [until]
    while frontier:
        wanted.add(name := frontier.pop())
        frontier += [need for need in by_name[name].needs if need in by_name and need not in wanted]
    return [stage for stage in by_name.values() if stage.name in wanted]


def lookup(tree: Mapping[str, object], dotted: str) -> object:
    """The value or table that a dotted key names."""
    first, _, rest = dotted.partition(".")
    value = tree[first]
    if not rest:
        return value
    assert isinstance(value, Mapping)
    return lookup(value, rest)
