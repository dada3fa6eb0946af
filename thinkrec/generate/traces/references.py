"""Stage "references": what the teachers say about the explained test rows, for the report to hold the explanations against.

The paper does the same (method.md 11). Nobody learns from these texts: they are made when all training has ended, in an artefact that only
"evaluate" reads. A teacher is asked as in "traces", and its answer counts only if it passes the same checks.
"""

from __future__ import annotations

import polars as pl

from thinkrec.data.schema import TRACES
from thinkrec.generate.rows.stream import write_table
from thinkrec.generate.rows.task import Row
from thinkrec.generate.traces.stage import QUARANTINE, ask, deal, summary
from thinkrec.generate.traces.teacher import load_teachers
from thinkrec.job import Job
from thinkrec.prompt.catalogue import ArtefactPaths


def run(job: Job) -> None:
    """Write references.parquet (schema.TRACES, one a row at most) and what was refused; inputs ingest, keywords, base, teacher, score."""
    attempts: list[Row] = []
    job.draft.figures["used"] = job.config.traces.enabled
    if job.config.traces.enabled:
        rows = pl.read_parquet(job.inputs["score"].path("explanations.parquet"), columns=["row"])["row"].to_numpy()
        dealt = deal(load_teachers(ArtefactPaths(job.places())), rows, job.config.run.seed)
        attempts = [attempt for teacher, own in dealt for attempt in ask(job, teacher, own)[1]]
        attempts.sort(key=lambda attempt: (attempt["row"], attempt["attempt"]))
        job.draft.figures.update(summary(attempts))
    write_table(job, "references.parquet", [attempt for attempt in attempts if not attempt["reason"]], TRACES)
    write_table(job, "quarantine/references.parquet", [attempt for attempt in attempts if attempt["reason"]], QUARANTINE)
