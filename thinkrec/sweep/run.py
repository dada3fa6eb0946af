"""Making the graph of a sweep: up to `num_parallel` stages at a time, whatever trial they belong to.

A stage that fails takes the trials with it that need it, and no others. Each node is handed out once, so two trials that wait for the same
artefact never make it twice.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from typing import Any

from thinkrec.errors import StageFailed, ThinkrecError
from thinkrec.evaluate.compare import COMPARISON_FILES, Entry, write_comparison
from thinkrec.evaluate.run_report.publish import publish
from thinkrec.events import Compared, NothingToDo, SweepStarted, TrialFailed
from thinkrec.job import Reporter
from thinkrec.pipeline import lease
from thinkrec.pipeline.checks import check_run
from thinkrec.pipeline.execute import make_stage
from thinkrec.pipeline.keys import KEY_LENGTH
from thinkrec.store.artefacts import Artefact, Store, digest, writable
from thinkrec.sweep.graph import Node, Place, graph, places
from thinkrec.sweep.trials import Sweep

COMPARISON = "comparison"
COMPARED = ("cluster", "score", "evaluate")  # stages whose files a comparison reads
VERSION = 1  # raise it when the comparison starts to compute something else
Failures = dict[Place, BaseException]


def run(sweep: Sweep, report: Reporter, session: Callable[[Sweep], AbstractContextManager[None]] | None = None) -> Artefact:
    """Make what is not committed yet and compare the trials; returns the comparison, which is also copied to the sweep's folder.

    `session` is entered only if there is work. A trial that failed is told at the end: StageFailed names all of them, and where none came
    through, or what failed was a bug, the error itself is raised.
    """
    check_run(*(trial.config for trial in sweep.trials))
    store, where = Store(sweep.settings.dir), places(sweep.trials)
    nodes = graph(sweep.trials, where)
    waiting = {place: node for place, node in nodes.items() if store.find(*place) is None}
    report(SweepStarted(store.root, len(sweep.trials), len(nodes), len(waiting)))
    _verify(waiting, store)
    size = sweep.settings.num_parallel
    # The session inside the pool: an interrupt then ends the cluster first, and with it what the threads wait for.
    with ThreadPoolExecutor(size) as pool, ExitStack() as stack:
        if waiting:
            stack.enter_context(lease.hold(store.root, sweep.shared.faults.lease_s, report))
        if waiting and session:
            stack.enter_context(session(sweep))
        failed = _make(waiting, store, pool, size, report)
    lost = {name: error for name, mine in where.items() if (error := _first(failed, mine))}
    for name, error in lost.items():
        report(TrialFailed(_told(error), trial=name))
    if len(lost) == len(sweep.trials):
        raise next(iter(lost.values()))
    compared = _compare(sweep, where, lost, store, report)
    if not waiting:
        report(NothingToDo(store.root))
    for error in lost.values():
        if not isinstance(error, ThinkrecError):
            raise error
    if lost:
        reasons = "\n".join(f"{name}: {_told(error)}" for name, error in lost.items())
        raise StageFailed(f"{len(lost)} of {len(sweep.trials)} trials failed\n{reasons}", store.root, "the others are done and compared")
    return compared


def _verify(waiting: Mapping[Place, Node], store: Store) -> None:
    """No stage builds on what was damaged since it was committed."""
    needed = {place for node in waiting.values() for place in node.inputs.values()}
    for place in sorted(needed - waiting.keys()):
        _found(store, place).verify()


def _make(waiting: Mapping[Place, Node], store: Store, pool: ThreadPoolExecutor, size: int, report: Reporter) -> Failures:
    """Make every node that can be made; returns the others, each with the error that stopped it."""
    left, running, failed = dict(waiting), dict[Future[Artefact], Place](), Failures()
    while left or running:
        for place, node in list(left.items()):
            open_inputs = {*left, *running.values()} & {*node.inputs.values()}
            if error := _first(failed, node.inputs):
                failed[place] = error
                del left[place]
            elif not open_inputs and len(running) < size:
                running[pool.submit(_make_one, node, store, report)] = place
                del left[place]
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            place = running.pop(future)
            if error := future.exception():
                failed[place] = error
    return failed


def _make_one(node: Node, store: Store, report: Reporter) -> Artefact:
    inputs = {name: _found(store, place) for name, place in node.inputs.items()}
    return make_stage(node.stage, node.key, node.trial.config, store, inputs, lambda event: report(replace(event, trial=node.trial.name)))


def _first(failed: Failures, needed: Mapping[str, Place]) -> BaseException | None:
    return next((failed[place] for place in needed.values() if place in failed), None)


def _told(error: BaseException) -> str:
    """The first line of an error made on purpose; of a bug, what it is."""
    return str(error).splitlines()[0] if isinstance(error, ThinkrecError) else repr(error)


def _found(store: Store, place: Place) -> Artefact:
    artefact = store.find(*place)
    assert artefact is not None, place
    return artefact


def _compare(
    sweep: Sweep, where: Mapping[str, Mapping[str, Place]], lost: Mapping[str, BaseException], store: Store, report: Reporter
) -> Artefact:
    """The comparison of the trials that came through, made anew only if one of them is another; copies reports and adapters out."""
    entries = [
        Entry(
            one.name, one.base, one.reference, one.variant, one.config, {stage: _found(store, at) for stage, at in where[one.name].items()}
        )
        for one in sweep.trials
        if one.name not in lost
    ]
    settings = sweep.settings.model_dump(mode="json", include={"title", "reference", "metric"})
    failures = {name: _told(error) for name, error in lost.items()}
    trials = [[one.name, one.variant, one.config.model_dump(mode="json"), where[one.name]] for one in entries]
    key = digest([VERSION, settings, failures, trials])[:KEY_LENGTH]
    compared = store.find(COMPARISON, key) or _make_comparison(entries, settings, failures, store, key, report)
    compared.verify()
    for entry in entries:
        publish(entry.artefacts, f"{store.root}/trials/{entry.name}")
    with writable(store.root) as target:
        for name in COMPARISON_FILES:
            shutil.copy(compared.path(name), target / name)
    return compared


def _make_comparison(
    entries: Sequence[Entry], settings: Mapping[str, Any], failures: Mapping[str, str], store: Store, key: str, report: Reporter
) -> Artefact:
    for entry in entries:
        for stage in COMPARED:
            entry.artefacts[stage].verify()
    with store.create(COMPARISON, key, {entry.name: entry.artefacts["evaluate"] for entry in entries}, settings) as draft:
        write_comparison(draft.folder, entries, settings, failures)
    report(Compared(len(entries), key))
    return _found(store, (COMPARISON, key))
