"""The last sections of the report: what the run cost, and all that is needed to make it again."""

from __future__ import annotations

from html import escape

from thinkrec.evaluate.report import svg
from thinkrec.evaluate.report.format import count, size
from thinkrec.evaluate.report.html import folded, paragraph, plots, table, tiles, tree
from thinkrec.evaluate.run_report.schema import Report, StageCost
from thinkrec.text.duration import duration


def cost(report: Report) -> str:
    """Time, GPU-hours, tokens, memory and disk of every stage."""
    stages, total = report["cost"]["stages"], report["cost"]["total"]
    facts = [
        ("wall time of the stages", duration(total["wall_s"])),
        ("GPU-hours", _hours(total["gpu_hours"])),
        ("tokens generated", count(total["num_tokens"])),
        ("on disk", size(total["num_bytes"])),
    ]
    spent = [(row["stage"], row["wall_s"], duration(row["wall_s"])) for row in stages if row["wall_s"] is not None]
    rows = [("", _stage(row)) for row in stages]
    note = (
        "Stages up to this report, each as it was when it was last made; a try that was cut off is not counted. GPU-hours are wall time "
        "times the GPUs reserved. Memory is the peak of the worker that keeps the log: on its GPU, or resident where there is none."
    )
    return "".join(
        [
            tiles(facts),
            plots(("Wall time", svg.bars("wall time", spent))),
            table(["Stage", "wall time", "GPUs", "GPU-hours", "tokens", "peak memory", "on disk"], rows),
            paragraph(note, "note"),
        ]
    )


def settings(report: Report) -> str:
    """Everything needed to make this run again."""
    return "".join(
        [
            folded("Every setting of this run", tree(report["settings"])),
            folded("Versions of the packages", tree(report["versions"])),
            folded("Figures of every stage", tree(report["figures"])),
        ]
    )


def _stage(row: StageCost) -> list[str]:
    measured = [duration(row["wall_s"]), count(row["num_gpus"]), _hours(row["gpu_hours"])]
    return [escape(row["stage"]), *measured, count(row["num_tokens"]), size(row["peak_bytes"]), size(row["num_bytes"])]


def _hours(value: float | None) -> str:
    return "\u2013" if value is None else f"{value:.2f}"
