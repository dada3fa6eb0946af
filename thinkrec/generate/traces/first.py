"""Stage "traces-first": the traces that the global adapter begins with while the others are written (traces.start_share)."""

from __future__ import annotations

from thinkrec.artefacts.traces import write_traces
from thinkrec.generate.traces.stage import choose_rows, deal, first_rows, gather, summary
from thinkrec.generate.traces.teacher import load_teachers
from thinkrec.job import Job
from thinkrec.prompt.catalogue import ArtefactPaths


def run(job: Job) -> None:
    """Write the accepted traces as stage "traces" will have it at its head; inputs as there.

    What is refused stands in the quarantine of "traces", which judges the same attempts again.
    """
    rows = choose_rows(job)
    first = first_rows(job, rows)
    dealt = deal(load_teachers(ArtefactPaths(job.places())), rows, job.config.run.seed)
    _, attempts = gather(job, [(teacher, theirs & first) for teacher, theirs in dealt], first)
    write_traces(job.draft.local(), [attempt for attempt in attempts if not attempt["reason"]])
    job.draft.figures.update(summary(attempts))
