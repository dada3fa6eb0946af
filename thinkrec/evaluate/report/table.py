"""The report as a plain text table, for the terminal."""

from __future__ import annotations

from thinkrec.evaluate.metrics.table import HEADLINE_METRICS, Measured
from thinkrec.evaluate.report.format import label, number, span
from thinkrec.evaluate.report.headline import sentences, title, verdict
from thinkrec.evaluate.run_report.schema import Report


def report_text(report: Report) -> str:
    """The headline of a run's report, and its `text_table`."""
    return "\n".join([title(report), *sentences(report), "", text_table(report)])


def text_table(report: Measured) -> str:
    """Metrics with intervals, users used and dropped, and paired differences."""
    rows = [["", *HEADLINE_METRICS]]
    for row in report["metrics"]:
        found = [row["metrics"][metric] for metric in HEADLINE_METRICS]
        rows.append([label(row["name"]), *(f"{number(cell['value'])} ({span(cell)})" for cell in found)])
    cells = [report["metrics"][0]["metrics"][metric] for metric in HEADLINE_METRICS]
    rows.append(["users used / dropped", *(f"{cell['num_users']} / {cell['num_dropped']}" for cell in cells)])
    for pair in report["differences"]:
        steps = [pair["metrics"][metric] for metric in HEADLINE_METRICS]
        words = [f"{number(step['value'], True)} ({span(step, True)}) {verdict(step)}" for step in steps]
        rows.append([f"{label(pair['name'])} - {label(pair['against'])}", *words])
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    foot = f"{report['num_rows']} rows of {report['num_users']} users; 95 % intervals over resampled users"
    return "\n".join([*text, foot])
