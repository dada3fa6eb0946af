"""Stage "references": what the teachers say about the explained test rows, for the report to hold the explanations against.

The paper does the same (method.md 11). Nobody learns from these texts: they are made when all training has ended, in an artefact that only
"evaluate" reads. A teacher is asked as in "traces", and its answer counts only if it passes the same checks.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from thinkrec.data.schema import TRACES
from thinkrec.generate.stream import write_table
from thinkrec.generate.traces import QUARANTINE, ask_about, summary
from thinkrec.job import Job


def run(job: Job) -> None:
    """Write references.parquet (schema.TRACES, one a row at most) and what was refused; inputs ingest, keywords, base, teacher, score."""
    attempts: list[dict[str, Any]] = []
    job.draft.figures["used"] = job.config.traces.enabled
    if job.config.traces.enabled:
        rows = pl.read_parquet(job.inputs["score"].path("explanations.parquet"), columns=["row"])["row"].to_numpy()
        attempts = ask_about(job, rows)
        job.draft.figures.update(summary(attempts))
    write_table(job, "references.parquet", [attempt for attempt in attempts if not attempt["reason"]], TRACES)
    write_table(job, "quarantine/references.parquet", [attempt for attempt in attempts if attempt["reason"]], QUARANTINE)
