"""The stages of a run: key each one, skip what is committed, run the rest.

The table below is the whole graph. A stage's key is a digest of its version, the sections of the run file it reads, the user's files it
reads and the keys of the stages it needs; so a changed setting reruns exactly the stages that depend on it.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thinkrec import lease
from thinkrec.config import AUTO, Config
from thinkrec.digests import fingerprint, is_same_folder
from thinkrec.errors import ConfigError, EnvironmentFault, MissingFileError, ThinkrecError
from thinkrec.failures import classify
from thinkrec.job import Job, Voice, first_part
from thinkrec.store import Artefact, Store, digest, exists

if TYPE_CHECKING:  # a run that names no folder starts without it
    from thinkrec.evaluate.learned import Encoder, Regressor
    from thinkrec.model.check import Base, Speaker

KEY_LENGTH = 16
LOOK_S = 0.5  # between two looks whether a first part is there


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
    streams: str = ""  # the input that this stage can begin with while it is being made, if traces.start_share says so

    def inputs(self, config: Config) -> tuple[str, ...]:
        """What the stage needs in this run."""
        on = not self.switch or _lookup(config.model_dump(), self.switch)
        return self.needs if on else ()

    def settings(self, config: Config) -> dict[str, Any]:
        tree = config.model_dump(mode="json")
        return {key: _lookup(tree, key) for key in self.reads}


ENGINE = (  # how many ask, how fast and where decides no answer
    "engine.kind",
    "engine.http.model",
    "engine.http.chat",
    "engine.vllm.dtype",
    "engine.vllm.kv_cache_dtype",
    "engine.vllm.max_model_len",
)
PROMPTED = ("prompt", "base.dtype", "run.seed")
LEARNING = (*PROMPTED, "adapter", "traces.enabled", "train.ds_config", "train.trace_share", "train.loss")
TEXTS = ("ingest", "encode", "keywords", "traces", "base")
ADAPTERS = ("global", "projector", "experts")
DS_FILE, NANO_DS_FILE = ("train.ds_config",), ("base.nano.ds_config",)
GROWN = (("keywords.extractor", "nano"), ("traces.teachers", "nano"))

STAGES = (
    Stage("ingest", "thinkrec.data.ingest", (), ("data", "split", "run.seed"), files=("data.path", "data.items_path"), version=3),
    Stage(
        "encode",
        "thinkrec.encoder.fit",
        ("ingest",),
        ("encoder", "prompt.history_policy", "run.seed"),
        files=("encoder.users_path", "encoder.items_path"),
    ),
    Stage("cluster", "thinkrec.cluster.assign", ("ingest", "encode"), ("cluster", "run.seed")),
    Stage("extractor", "thinkrec.generate.extractor", ("ingest",), ("keywords", "engine.kind", "base.nano", "run.seed"), NANO_DS_FILE),
    Stage(
        "keywords",
        "thinkrec.generate.keywords",
        ("ingest", "extractor"),
        ("keywords", *ENGINE, "prompt.domain", "run.seed"),
        ("keywords.extractor",),
        version=3,
    ),
    Stage("base", "thinkrec.train.base", ("ingest", "keywords"), ("base", "prompt", "run.seed"), ("base.path", *NANO_DS_FILE), version=2),
    Stage(
        "teacher",
        "thinkrec.generate.teacher",
        ("ingest", "keywords", "base"),
        ("traces", *ENGINE, "prompt", "base.nano.ds_config", "run.seed"),
        ("traces.teachers", *NANO_DS_FILE),
        version=2,
        switch="traces.enabled",
    ),
    Stage(
        "traces",
        "thinkrec.generate.traces",
        ("ingest", "keywords", "cluster", "base", "teacher"),
        ("traces", *ENGINE, "prompt", "run.seed"),
        version=3,
        switch="traces.enabled",
    ),
    Stage("global", "thinkrec.train.global_adapter", TEXTS, (*LEARNING, "train.global_adapter"), DS_FILE, version=2, streams="traces"),
    Stage("projector", "thinkrec.train.projector", (*TEXTS, "global"), (*LEARNING, "train.projector"), DS_FILE, version=2),
    Stage(
        "experts", "thinkrec.train.experts", (*TEXTS, "cluster", "global", "projector"), (*LEARNING, "train.experts"), DS_FILE, version=2
    ),
    Stage(
        "score",
        "thinkrec.score.batch",
        ("ingest", "encode", "cluster", "keywords", "base", *ADAPTERS),
        (*PROMPTED, "adapter", "train.loss.score", "evaluate.fusion", "evaluate.max_rows", "evaluate.num_explanations"),
        version=3,
    ),
    Stage(
        "references",
        "thinkrec.generate.references",
        ("ingest", "keywords", "base", "teacher", "score"),
        ("traces", *ENGINE, "prompt", "run.seed"),
        switch="traces.enabled",
    ),
    Stage(
        "evaluate",
        "thinkrec.evaluate.judge",
        ("ingest", "encode", "cluster", "extractor", "keywords", "base", "teacher", "traces", *ADAPTERS, "score", "references"),
        ("evaluate", "prompt.history_length", "prompt.history_policy", "prompt.answer", "run.seed"),
        ("evaluate.bert_score_path", "evaluate.bleurt_path"),
        version=2,
    ),
)


def select(until: str | None = None) -> list[Stage]:
    """The stages in order, up to and including what `until` needs; raises ConfigError for an unknown name."""
    by_name = {stage.name: stage for stage in STAGES}
    if until is None:
        return list(STAGES)
    if until not in by_name:
        raise ConfigError(f"there is no stage {until!r}", "--until", f"stages: {', '.join(by_name)}")
    wanted, frontier = set[str](), [until]
    while frontier:
        wanted.add(name := frontier.pop())
        frontier += [need for need in by_name[name].needs if need not in wanted]
    return [stage for stage in STAGES if stage.name in wanted]


def keys(config: Config, taken: Mapping[str, str] | None = None) -> dict[str, str]:
    """The artefact key of every stage; raises MissingFileError for a named file that is not there.

    `taken`: keys of stages whose artefacts come from another run, so that what builds on them is keyed by those.
    """
    found: dict[str, str] = {}
    for stage in STAGES:
        files = [_fingerprint(config, key) for key in stage.files]
        inputs = [found[need] for need in stage.inputs(config)]
        own = digest([stage.name, stage.version, stage.settings(config), files, inputs])[:KEY_LENGTH]
        found[stage.name] = (taken or {}).get(stage.name, own)
    return found


def run(
    config: Config, say: Voice, until: str | None = None, session: Callable[[Config], AbstractContextManager[None]] | None = None
) -> dict[str, Artefact]:
    """Make every stage's artefact, reusing what is committed; returns them by name. `session` is entered only if there is work."""
    check(config)
    store, named = Store(config.run.dir), keys(config)
    stages = select(until)
    waiting = [stage for stage in stages if store.find(stage.name, named[stage.name]) is None]
    say("run", dir=store.root, stages=len(stages), to_do=[stage.name for stage in waiting])
    needed = {need for stage in waiting for need in stage.inputs(config)}
    artefacts: dict[str, Artefact] = {}
    # The session inside the pool: an interrupt then ends the cluster first, and with it what the thread waits for.
    with ThreadPoolExecutor(1) as pool, ExitStack() as stack:
        held = stack.enter_context(lease.hold(store.root, config.faults.lease_s, say)) if waiting else None
        if waiting and session:
            stack.enter_context(session(config))
        early = _to_stream(waiting, config, say)
        going = dict[str, Future[Artefact]]()  # at most one stage, of which only the first part is there
        for stage in stages:
            if held:
                held.check()
            cached = store.find(stage.name, named[stage.name])
            if cached and stage.name in needed:
                cached.verify()  # no stage builds on what was damaged since
            inputs = {need: artefacts[need] for need in stage.inputs(config)}
            made = (stage, named[stage.name], config, store, inputs, say)
            if not cached and stage.name in early:
                going[stage.name] = pool.submit(make, *made)
                artefacts[stage.name] = _first_part(store, stage.name, named[stage.name], going[stage.name])
                continue
            artefacts[stage.name] = cached or make(*made, _waiter(inputs, going) if stage.streams in going else None)
            artefacts |= {name: future.result() for name, future in going.items()}
            going.clear()
            if cached:
                say("stage cached", stage=stage.name, key=named[stage.name])
    if not waiting:
        say("nothing to do", dir=store.root)
    return artefacts


def check(*configs: Config) -> None:
    """Look at everything a run would trip over late: DeepSpeed files, and the folders of base, extractor, teachers and text metrics.

    Several runs are looked at together, so that each folder is opened once.
    """
    from thinkrec.train import zero

    for config in configs:
        for key, is_open in (("ds_config", config.train.ds_config == AUTO), ("workers_per_group", not config.train.workers_per_group)):
            if is_open:  # Ray Train takes 0 workers for "in this process"
                raise ConfigError("this is still open", f"train.{key}", "give it, or let ops.resolve fill it in")
        for name in (config.train.ds_config, config.base.nano.ds_config):
            zero.read_config(name)
        _check_models(config)
    for folder in dict.fromkeys(folder for config in configs for folder in _folders(config)):
        folder.check()


def _check_models(config: Config) -> None:
    """Raise for an engine that is not there, and for an extractor or a teacher that could neither be loaded, taught nor asked for."""
    from thinkrec.generate.vllm import check_installed

    if config.engine.kind == "vllm" and (config.keywords.source == "engine" or config.traces.enabled):
        check_installed()
    is_served = config.engine.kind == "http"
    if config.keywords.source == "engine" and is_served and not config.engine.http.model:
        raise ConfigError("nobody says which of the server's models reads keywords", "engine.http.model", "name it, or set keywords.source")
    for teacher in config.traces.teachers if config.traces.enabled else ():
        if not is_served and not teacher.path:
            raise ConfigError(f"the teacher {teacher.name!r} has no folder", "traces.teachers", 'give its path, or engine.kind = "http"')
        if is_served and teacher.path == "nano":
            raise ConfigError(
                'a nano teacher is taught here, and engine.kind = "http" asks a server',
                "traces.teachers",
                "name one of the server's models as a teacher, or set traces.enabled = false",
            )
        if teacher.path == "nano" and config.base.source != "nano":
            raise ConfigError(
                'a nano teacher is grown from the nano base, and base.source = "folder"',
                "traces.teachers",
                "give the path of a teacher's folder (base.path will do if it can reason), or set traces.enabled = false",
            )


def _folders(config: Config) -> Iterator[Base | Speaker | Encoder | Regressor]:
    """Every model folder that the run file names, as what it is used for."""
    from thinkrec.evaluate.learned import Encoder, Regressor
    from thinkrec.model.check import Base, Speaker

    kind, date, measured = config.engine.kind, config.prompt.date, config.evaluate
    if config.base.source == "folder":
        yield Base(config.base.path, config.adapter.target_modules, date)
    if config.keywords.source == "engine" and config.keywords.extractor != "nano" and kind != "http":
        yield Speaker(config.keywords.extractor, "keywords.extractor", "", kind)
    for teacher in config.traces.teachers if config.traces.enabled else ():
        if teacher.path not in ("", "nano"):
            yield Speaker(teacher.path, "traces.teachers", "" if config.engine.http.chat and kind == "http" else date, kind)
    if measured.bert_score_path:
        yield Encoder(measured.bert_score_path, measured.bert_score_layer)
    if measured.bleurt_path:
        yield Regressor(measured.bleurt_path)


def make(
    stage: Stage,
    key: str,
    config: Config,
    store: Store,
    inputs: Mapping[str, Artefact],
    say: Voice,
    wait: Callable[[], None] | None = None,
) -> Artefact:
    """Run one stage and commit its artefact; `wait` as in Job."""
    say("stage started", stage=stage.name, key=key)
    try:
        with store.create(stage.name, key, inputs, stage.settings(config)) as draft:
            importlib.import_module(stage.module).run(Job(config, inputs, draft, store, key, say, wait))
    except ThinkrecError as error:
        say("stage failed", stage=stage.name, error=str(error))
        raise
    except OSError as error:
        failure, _ = classify([error])
        if failure.raises is not EnvironmentFault:
            raise  # a bug
        say("stage failed", stage=stage.name, error=str(error))
        raise EnvironmentFault(f"{failure.name.replace('_', ' ')}: {error}", f"stage {stage.name}", failure.mend) from error
    made = store.find(stage.name, key)
    assert made is not None
    say("stage done", stage=stage.name, key=key, figures=_brief(made.figures))
    return made


def _to_stream(waiting: Collection[Stage], config: Config, say: Voice) -> set[str]:
    """The stages to come during which another begins; none, and a warning, where the connected cluster has no room for both."""
    from thinkrec.generate.room import lacks_room_beside

    early = {stage.streams for stage in waiting} & {stage.name for stage in waiting}
    if not early or not config.traces.enabled or config.traces.start_share == 1:
        return set()
    if config.train.use_gpu and (reason := lacks_room_beside(config)):
        say("warning", text=f"traces are all written before training begins (traces.start_share): {reason}")
        return set()
    return early


def _first_part(store: Store, stage: str, key: str, going: Future[Artefact]) -> Artefact:
    """What is there of a stage as soon as anything is; raises what the stage raised if it failed before."""
    while not going.done():
        if first := store.find(first_part(stage), key):
            return first
        time.sleep(LOOK_S)
    return going.result()


def _waiter(inputs: dict[str, Artefact], going: Mapping[str, Future[Artefact]]) -> Callable[[], None]:
    return lambda: inputs.update((name, future.result()) for name, future in going.items())


def _lookup(tree: dict[str, Any], dotted: str) -> Any:
    value: Any = tree
    for part in dotted.split("."):
        value = value[part]
    return value


def _fingerprint(config: Config, key: str) -> str:
    """Of what a key names: a path, or the paths in a list of tables; empty for none and for a model that the run makes itself."""
    value = _lookup(config.model_dump(), key)
    named = [str(entry["path"]) for entry in value] if isinstance(value, tuple | list) else [str(value)]
    return "".join(_fingerprint_of(key, path, config.run.dir) for path in named if path and (key, path) not in GROWN)


def _fingerprint_of(key: str, named: str, run_dir: str) -> str:
    if key in (*DS_FILE, *NANO_DS_FILE):
        from thinkrec.train.zero import find_config

        return fingerprint(find_config(named))
    if not exists(named):
        raise MissingFileError(f"{key} names something that is not there", named, f"mend {key} in the run file, or give --set {key}=...")
    if is_same_folder(named, run_dir):
        raise ConfigError(f"the run would write among its own input, {key}", run_dir, "give run.dir a folder of its own, runs/mine say")
    return fingerprint(named, run_dir)


def _brief(figures: Any) -> dict[str, Any]:
    """The figures that fit on a line."""
    return {name: value for name, value in dict(figures).items() if not isinstance(value, list | dict)}
