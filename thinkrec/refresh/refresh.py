"""`thinkrec refresh`: a finished run with a new day's log becomes today's run, if today's model is not worse on the newest day's rows.

Which artefacts are the run's is said by report.json in run.dir. Yesterday's stay where they are, whoever wins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

from thinkrec.artefacts.promotion import Promotion, read_promotion
from thinkrec.config.run import Config
from thinkrec.errors import ConfigError
from thinkrec.evaluate.run_report.publish import publish
from thinkrec.job import Reporter
from thinkrec.pipeline.checks import check_run
from thinkrec.pipeline.execute import run_graph
from thinkrec.pipeline.graph import Graph
from thinkrec.refresh.stages import KEPT, refresh_graph
from thinkrec.store.artefacts import Artefact


@dataclass(frozen=True)
class Refreshed:
    """What a refresh has come to; `artefacts` are those of today, yesterday's among them where they are kept."""

    promotion: Promotion
    artefacts: Mapping[str, Artefact]


def plan_refresh(config: Config, yesterday: Mapping[str, Artefact]) -> Graph:
    """The nodes of a refresh of a finished run, whose artefacts by stage these are; raises UserError for what cannot be refreshed."""
    if not config.refresh.path:
        raise ConfigError("no new log is named", "refresh.path", "give --log, the log of the new day in the form of data.path")
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
        publish(artefacts, config.run.dir)
    return Refreshed(promotion, artefacts)
