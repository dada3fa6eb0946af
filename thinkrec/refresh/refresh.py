"""`thinkrec refresh`: a finished run with a new day's log becomes today's run, if today's model is not worse on the newest day's rows.

Which artefacts are the run's is said by report.json in run.dir. Yesterday's stay where they are, whoever wins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

from thinkrec.artefacts.promotion import Promotion, read_promotion
from thinkrec.config.run import Config
from thinkrec.errors import ConfigError, StageFailed
from thinkrec.evaluate.run_report.publish import publish
from thinkrec.evaluate.run_report.schema import REPORT_FILE, Report
from thinkrec.job import Reporter
from thinkrec.pipeline import lease
from thinkrec.pipeline.checks import check_run
from thinkrec.pipeline.execute import run_graph
from thinkrec.pipeline.graph import Graph
from thinkrec.refresh.stages import KEPT, refresh_graph
from thinkrec.store.address import read_record
from thinkrec.store.artefacts import Artefact, Store


@dataclass(frozen=True)
class Refreshed:
    """What a refresh has come to; `artefacts` are those of today, yesterday's among them where they are kept."""

    promotion: Promotion
    artefacts: Mapping[str, Artefact]


def plan_refresh(config: Config, yesterday: Mapping[str, Artefact]) -> Graph:
    """The nodes of a refresh of a finished run, whose artefacts by stage these are; raises UserError for what cannot be refreshed."""
    if not config.refresh.path:
        raise ConfigError("no new log is named", "refresh.path", "give --log, the log of the new day in the form of data.path")
    if config.traces.enabled and any(teacher.path == "planted" for teacher in config.traces.teachers):
        what = "a planted teacher explains the rows of its world alone, and a new day's are none of them"
        raise ConfigError(what, "traces.teachers", "make a run with another teacher, and refresh that")
    check_run(config)
    return refresh_graph(config, yesterday)


def refresh(
    config: Config,
    yesterday: Mapping[str, Artefact],
    report: Reporter,
    session: Callable[[Config], AbstractContextManager[None]] | None = None,
) -> Refreshed:
    """Make what is missing of a refresh, and publish today's run if it is promoted; a killed one goes on where it was."""
    made = run_graph(config, plan_refresh(config, yesterday), report, session)
    artefacts = {stage: yesterday[stage] for stage in KEPT if stage in yesterday} | made
    promotion = read_promotion(made["promotion"].path())
    if promotion.is_promoted:
        with lease.hold(Store(config.run.dir).root, config.faults.lease_s, report):
            _refuse_another(config.run.dir, yesterday["evaluate"], artefacts["evaluate"])
            publish(artefacts, config.run.dir)
    return Refreshed(promotion, artefacts)


def _refuse_another(run_dir: str, *known: Artefact) -> None:
    """Raise StageFailed where report.json tells of a run that is none of these: its days would be lost."""
    report = read_record(f"{run_dir}/{REPORT_FILE}", Report)
    if report and report["run"]["key"] not in {judged.key for judged in known}:
        what = "another run was published here while this refresh was made, so today's model knows too little of it"
        raise StageFailed(what, f"{run_dir}/{REPORT_FILE}", "run the same command again: it goes on from the run that is there now")
