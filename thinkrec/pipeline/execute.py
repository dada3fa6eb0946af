"""Making a run: skip what is committed, make the rest."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from typing import Any

from thinkrec.config.run import Config
from thinkrec.distributed.failures import classify
from thinkrec.errors import EnvironmentFault, ThinkrecError
from thinkrec.events import NothingToDo, RunStarted, StageAborted, StageCached, StageDone, StageStarted, Warned
from thinkrec.job import Job, Reporter, first_part
from thinkrec.pipeline import lease
from thinkrec.pipeline.checks import check_run
from thinkrec.pipeline.keys import stage_keys
from thinkrec.pipeline.stages import Stage, select_stages
from thinkrec.store.artefacts import Artefact, Store

LOOK_S = 0.5  # between two looks whether a first part is there


def run_stages(
    config: Config, report: Reporter, until: str | None = None, session: Callable[[Config], AbstractContextManager[None]] | None = None
) -> dict[str, Artefact]:
    """Make every stage's artefact, reusing what is committed; returns them by name. `session` is entered only if there is work."""
    check_run(config)
    store, named = Store(config.run.dir), stage_keys(config)
    stages = select_stages(until)
    waiting = [stage for stage in stages if store.find(stage.name, named[stage.name]) is None]
    report(RunStarted(store.root, len(stages), tuple(stage.name for stage in waiting)))
    needed = {need for stage in waiting for need in stage.inputs(config)}
    artefacts: dict[str, Artefact] = {}
    # The session inside the pool: an interrupt then ends the cluster first, and with it what the thread waits for.
    with ThreadPoolExecutor(1) as pool, ExitStack() as stack:
        held = stack.enter_context(lease.hold(store.root, config.faults.lease_s, report)) if waiting else None
        if waiting and session:
            stack.enter_context(session(config))
        early = _to_stream(waiting, config, report)
        going = dict[str, Future[Artefact]]()  # at most one stage, of which only the first part is there
        for stage in stages:
            if held:
                held.check()
            cached = store.find(stage.name, named[stage.name])
            if cached and stage.name in needed:
                cached.verify()  # no stage builds on what was damaged since
            inputs = {need: artefacts[need] for need in stage.inputs(config)}
            made = (stage, named[stage.name], config, store, inputs, report)
            if not cached and stage.name in early:
                going[stage.name] = pool.submit(make_stage, *made)
                artefacts[stage.name] = _first_part(store, stage.name, named[stage.name], going[stage.name])
                continue
            artefacts[stage.name] = cached or make_stage(*made, _waiter(inputs, going) if stage.streams in going else None)
            artefacts |= {name: future.result() for name, future in going.items()}
            going.clear()
            if cached:
                report(StageCached(stage.name, named[stage.name]))
    if not waiting:
        report(NothingToDo(store.root))
    return artefacts


def make_stage(
    stage: Stage,
    key: str,
    config: Config,
    store: Store,
    inputs: Mapping[str, Artefact],
    report: Reporter,
    wait: Callable[[], None] | None = None,
) -> Artefact:
    """Run one stage and commit its artefact; `wait` as in Job."""
    begun = time.monotonic()
    report(StageStarted(stage.name, key))
    try:
        with store.create(stage.name, key, inputs, stage.settings(config)) as draft:
            importlib.import_module(stage.module).run(Job(config, inputs, draft, store, key, report, wait))
    except ThinkrecError as error:
        report(StageAborted(stage.name, str(error)))
        raise
    except OSError as error:
        failure, _ = classify([error])
        if failure.raises is not EnvironmentFault:
            raise  # a bug
        report(StageAborted(stage.name, str(error)))
        raise EnvironmentFault(f"{failure.name.replace('_', ' ')}: {error}", f"stage {stage.name}", failure.fix) from error
    made = store.find(stage.name, key)
    assert made is not None
    report(StageDone(stage.name, key, _brief(made.figures), round(time.monotonic() - begun, 1)))
    return made


def _to_stream(waiting: Collection[Stage], config: Config, report: Reporter) -> set[str]:
    """The stages to come during which another begins; none, and a warning, where the connected cluster has no room for both."""
    from thinkrec.generate.rows.capacity import lacks_room_beside

    early = {stage.streams for stage in waiting} & {stage.name for stage in waiting}
    if not early or not config.traces.enabled or config.traces.start_share == 1:
        return set()
    if config.train.use_gpu and (reason := lacks_room_beside(config)):
        report(Warned(f"traces are all written before training begins (traces.start_share): {reason}"))
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


def _brief(figures: Any) -> dict[str, Any]:
    """The figures that fit on a line."""
    return {name: value for name, value in dict(figures).items() if not isinstance(value, list | dict)}
