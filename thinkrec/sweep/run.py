"""Making a sweep: up to `num_parallel` stages at a time, whatever trial they belong to, and then the comparison.

A stage that fails takes the trials with it that need it, and no others.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial

from thinkrec.errors import StageFailed, ThinkrecError
from thinkrec.evaluate.compare import COMPARISON_FILES, Entry, write_comparison
from thinkrec.evaluate.comparison_schema import Headline
from thinkrec.evaluate.run_report.publish import publish
from thinkrec.events import Compared, NothingToDo, SweepStarted, TrialFailed
from thinkrec.job import Reporter
from thinkrec.pipeline.checks import check_run
from thinkrec.pipeline.execute import first_failure, make_graph
from thinkrec.pipeline.graph import Node, Place, committed, to_do
from thinkrec.pipeline.keys import KEY_LENGTH
from thinkrec.store.artefacts import Artefact, Store, digest, writable
from thinkrec.sweep.graph import graph, places
from thinkrec.sweep.trials import Sweep

COMPARISON = "comparison"
COMPARED = ("cluster", "score", "evaluate")  # stages whose files a comparison reads
VERSION = 1  # raise it when the comparison starts to compute something else


def run(sweep: Sweep, report: Reporter, session: Callable[[Sweep], AbstractContextManager[None]] | None = None) -> Artefact:
    """Make what is not committed yet and compare the trials; returns the comparison, which is also copied to the sweep's folder.

    `session` is entered only if there is work. A trial that failed is told at the end: StageFailed names all of them, and where none came
    through, or what failed was a bug, the error itself is raised.
    """
    check_run(*(trial.config for trial in sweep.trials))
    store, where = Store(sweep.settings.dir), places(sweep.trials)
    nodes = graph(sweep.trials, where)
    waiting = to_do(nodes, store)
    report(SweepStarted(store.root, len(sweep.trials), len(nodes), len(waiting)))
    opened = (lambda: session(sweep)) if session else nullcontext
    failed = make_graph(waiting, store, report, partial(_is_free, sweep), opened, sweep.shared.faults.lease_s, keep_going=True)
    lost = {name: error for name, mine in where.items() if (error := first_failure(failed, mine))}
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


def _is_free(sweep: Sweep, node: Node, running: Collection[Node]) -> bool:
    """Whether one more stage may be made."""
    return len(running) < sweep.settings.num_parallel


def _told(error: BaseException) -> str:
    """The first line of an error made on purpose; of a bug, what it is."""
    return str(error).splitlines()[0] if isinstance(error, ThinkrecError) else repr(error)


def _compare(
    sweep: Sweep, where: Mapping[str, Mapping[str, Place]], lost: Mapping[str, BaseException], store: Store, report: Reporter
) -> Artefact:
    """The comparison of the trials that came through, made anew only if one of them is another; copies reports and adapters out."""
    entries = []
    for one in sweep.trials:
        if one.name not in lost:
            made = {stage: committed(store, place) for stage, place in where[one.name].items()}
            entries.append(Entry(one.name, one.base, one.reference, one.variant, one.config, made))
    settings = Headline(title=sweep.settings.title, reference=sweep.settings.reference, metric=sweep.settings.metric)
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
    entries: Sequence[Entry], settings: Headline, failures: Mapping[str, str], store: Store, key: str, report: Reporter
) -> Artefact:
    for entry in entries:
        for stage in COMPARED:
            entry.artefacts[stage].verify()
    with store.create(COMPARISON, key, {entry.name: entry.artefacts["evaluate"] for entry in entries}, settings) as draft:
        write_comparison(draft.local(), entries, settings, failures)
    report(Compared(len(entries), key))
    return committed(store, (COMPARISON, key))
