"""The report of a run as one HTML file that needs nothing else: no network, no script."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from thinkrec.evaluate.report import quality, story
from thinkrec.evaluate.report.html import paragraph, tiles
from thinkrec.evaluate.report.style import STYLE
from thinkrec.evaluate.report.words import label, metric_of, number, percent, sentences, title

SECTIONS = (
    quality.metrics,
    quality.differences,
    quality.cells,
    quality.calibration,
    story.clusters,
    story.explanations,
    story.data,
    story.traces,
    story.training,
    story.settings,
)


def page(report: Mapping[str, Any]) -> str:
    """The whole document; `report` is what report.json holds."""
    sections = "".join(section(report) for section in SECTIONS)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title(report))}</title><style>{STYLE}</style></head>"
        f"<body><main>{_header(report)}{sections}</main></body></html>\n"
    )


def _header(report: Mapping[str, Any]) -> str:
    best = report["best"]
    where = f"thinkrec report \u00b7 {report['run']['dir']} \u00b7 {report['run']['key'][:12]}"
    facts = [
        ("test rows", f"{report['num_rows']:,}"),
        ("test users", f"{report['num_users']:,}"),
        ("like-rate", percent(report["like_rate"])),
        (f"AUC, {label(best)}", number(metric_of(report, best, "auc"))),
    ]
    said = "".join(paragraph(sentence, "" if n else "lead") for n, sentence in enumerate(sentences(report)))
    return f'<header><div class="kicker">{escape(where)}</div><h1>{escape(title(report))}</h1>{said}{tiles(facts)}</header>'
