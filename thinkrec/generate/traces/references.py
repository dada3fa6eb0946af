"""Stage "references": what the teachers say about the explained test rows, for the report to hold the explanations against.

The paper does the same (docs/method.md 11). Nobody learns from these texts: they are made when all training has ended, in an artefact that
only "evaluate" reads. A teacher is asked as in "traces", and its answer counts only if it passes the same checks.
"""

from __future__ import annotations

from thinkrec.artefacts.scores import read_explanations
from thinkrec.artefacts.traces import write_references
from thinkrec.generate.rows.task import Row
from thinkrec.generate.traces.stage import ask, deal, summary
from thinkrec.generate.traces.teacher import load_teachers
from thinkrec.job import Job
from thinkrec.prompt.catalogue import ArtefactPaths


def run(job: Job) -> None:
    """Write the references, one a row at most, and what was refused; inputs ingest, keywords, base, teacher, score."""
    attempts: list[Row] = []
    job.draft.figures["used"] = job.config.traces.enabled
    if job.config.traces.enabled:
        rows = read_explanations(job.inputs["score"].path(), ["row"])["row"].to_numpy()
        dealt = deal(load_teachers(ArtefactPaths(job.places())), rows, job.config.run.seed)
        attempts = [attempt for teacher, own in dealt for attempt in ask(job, teacher, own)[1]]
        attempts.sort(key=lambda attempt: (attempt["row"], attempt["attempt"]))
        job.draft.figures.update(summary(attempts))
    refused = [attempt for attempt in attempts if attempt["reason"]]
    write_references(job.draft.local(), [attempt for attempt in attempts if not attempt["reason"]], refused)
