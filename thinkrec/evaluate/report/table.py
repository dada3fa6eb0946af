"""The report as a plain text table, for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thinkrec.evaluate.metrics.table import HEADLINE_METRICS
from thinkrec.evaluate.report.format import label, number, span
from thinkrec.evaluate.report.headline import sentences, title, verdict


def text_table(report: Mapping[str, Any]) -> str:
    """Metrics with intervals, users used and dropped, and paired differences; with the headline when the report has one."""
    rows = [["", *HEADLINE_METRICS]]
    for row in report["metrics"]:
        found = [row["metrics"][metric] for metric in HEADLINE_METRICS]
        rows.append([label(row["name"]), *(f"{number(cell['value'])} ({span(cell)})" for cell in found)])
    cells = [report["metrics"][0]["metrics"][metric] for metric in HEADLINE_METRICS]
    rows.append(["users used / dropped", *(f"{cell['num_users']} / {cell['num_dropped']}" for cell in cells)])
    for row in report["differences"]:
        found = [row["metrics"][metric] for metric in HEADLINE_METRICS]
        words = [f"{number(cell['value'], True)} ({span(cell, True)}) {verdict(cell)}" for cell in found]
        rows.append([f"{label(row['name'])} - {label(row['against'])}", *words])
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    head = [title(report), *sentences(report), ""] if "best" in report else []
    foot = f"{report['num_rows']} rows of {report['num_users']} users; 95 % intervals over resampled users"
    return "\n".join([*head, *text, foot])
