"""Making a graph of stages, each as soon as what it needs is there, whatever run it belongs to.

Each node is handed out once, so two trials of a sweep that wait for the same artefact never make it twice.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cache

from thinkrec.config.run import Config
from thinkrec.distributed.failures import environment_fault
from thinkrec.errors import ThinkrecError
from thinkrec.events import Event, NothingToDo, RunStarted, StageAborted, StageCached, StageDone, StageStarted, Warned
from thinkrec.job import Job, Reporter
from thinkrec.pipeline import lease
from thinkrec.pipeline.checks import check_run
from thinkrec.pipeline.gpus import reserved_gpus
from thinkrec.pipeline.graph import Graph, Node, Place, committed, graph_of, to_do
from thinkrec.pipeline.keys import stage_keys
from thinkrec.pipeline.stages import select_stages
from thinkrec.store.artefacts import Artefact, Store

Session = Callable[[], AbstractContextManager[None]]
MayStart = Callable[[Node, Collection[Node]], bool]  # may_start(node, those being made)
Failures = dict[Place, BaseException]


def run_stages(
    config: Config, report: Reporter, until: str | None = None, session: Callable[[Config], AbstractContextManager[None]] | None = None
) -> dict[str, Artefact]:
    """Make every stage's artefact, reusing what is committed; returns them by name. `session` is entered only if there is work."""
    check_run(config)
    return run_graph(config, graph_of(config, stage_keys(config), select_stages(config, until)), report, session)


def run_graph(
    config: Config, graph: Graph, report: Reporter, session: Callable[[Config], AbstractContextManager[None]] | None = None
) -> dict[str, Artefact]:
    """The same of a graph in which each stage stands once.

    One stage is made at a time, but for those that the table has beside another. The first failure ends the run.
    """
    store = Store(config.run.dir)
    waiting = to_do(graph, store)
    report(RunStarted(store.root, len(graph), tuple(stage for stage, _ in waiting)))
    for place in graph:
        if place not in waiting:
            report(StageCached(*place))
    opened = (lambda: session(config)) if session else nullcontext
    failed = make_graph(waiting, store, report, _one_by_one(config, report), opened, config.faults.lease_s, keep_going=False)
    for error in failed.values():
        raise error
    if not waiting:
        report(NothingToDo(store.root))
    return {stage: committed(store, (stage, key)) for stage, key in graph}


def make_graph(
    waiting: Graph, store: Store, report: Reporter, may_start: MayStart, session: Session, lease_s: float, *, keep_going: bool
) -> Failures:
    """Make every node that can be made; returns the others, each with the error that stopped it. Without nodes nothing is entered.

    A stage that fails takes with it those that need it; without `keep_going` none is begun after it. Raises ArtefactError before anything
    is made if an artefact that a node needs was damaged since it was committed.
    """
    for place in sorted({place for node in waiting.values() for place in node.inputs.values()} - waiting.keys()):
        committed(store, place).verify()
    if not waiting:
        return {}
    left, running, failed = dict(waiting), dict[Future[Artefact], Node](), Failures()
    # The session inside the pool: an interrupt then ends the cluster first, and with it what the threads wait for.
    with ThreadPoolExecutor(len(waiting)) as pool, lease.hold(store.root, lease_s, report) as held, session():
        while left or running:
            for place, node in list(left.items()):
                if error := first_failure(failed, node.inputs):
                    failed[place] = error
                    del left[place]
                elif _is_ready(node, left, running.values()) and may_start(node, running.values()):
                    held.check()
                    running[pool.submit(make_stage, node, store, report)] = node
                    del left[place]
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                node = running.pop(future)
                if error := future.exception():
                    failed[node.stage.name, node.key] = error
            if failed and not keep_going:
                left.clear()
    return failed


def first_failure(failed: Mapping[Place, BaseException], needed: Mapping[str, Place]) -> BaseException | None:
    """The error that stopped the first of the needed nodes that has one."""
    return next((failed[place] for place in needed.values() if place in failed), None)


def make_stage(node: Node, store: Store, report: Reporter) -> Artefact:
    """Run one stage, whose inputs are committed, and commit its artefact."""
    stage, key, begun = node.stage, node.key, time.monotonic()
    inputs = {name: committed(store, place) for name, place in node.inputs.items()}

    def say(event: Event) -> None:
        report(replace(event, trial=node.trial) if node.trial else event)

    say(StageStarted(stage.name, key))
    try:
        with store.create(stage.name, key, inputs, stage.settings(node.config)) as draft:
            draft.num_gpus = reserved_gpus(stage.name, node.config)
            importlib.import_module(stage.module).run(Job(stage.view(node.config), inputs, draft, store, key, say))
    except ThinkrecError as error:
        say(StageAborted(stage.name, str(error)))
        raise
    except OSError as error:
        fault = environment_fault(error, f"stage {stage.name}")
        if fault is None:
            raise
        say(StageAborted(stage.name, str(error)))
        raise fault from error
    made = committed(store, (stage.name, key))
    say(StageDone(stage.name, key, _brief(made.figures), round(time.monotonic() - begun, 1)))
    return made


def _is_ready(node: Node, left: Graph, running: Collection[Node]) -> bool:
    open_places = {*left, *((other.stage.name, other.key) for other in running)}
    return open_places.isdisjoint(node.inputs.values())


def _one_by_one(config: Config, report: Reporter) -> MayStart:
    """One stage at a time, and beside it what the table has beside it if the connected cluster has room; else a warning, once."""

    @cache
    def have_room() -> bool:
        from thinkrec.generate.rows.capacity import lacks_room_beside

        if reason := config.train.use_gpu and lacks_room_beside(config):
            report(Warned(f"traces are all written before training begins (traces.start_share): {reason}"))
        return not reason

    def may_start(node: Node, running: Collection[Node]) -> bool:
        return not running or ({other.stage.name for other in running} == {node.stage.beside} and have_room())

    return may_start


def _brief(figures: Mapping[str, object]) -> dict[str, object]:
    """The figures that fit on a line."""
    return {name: value for name, value in figures.items() if not isinstance(value, list | dict)}
