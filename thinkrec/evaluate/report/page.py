"""The report of a run as one HTML file that needs nothing else: no network, no script."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from thinkrec.artefacts.ingest import FoundRows
from thinkrec.evaluate.report import clusters, cost_and_settings, data_and_training, explanations, quality
from thinkrec.evaluate.report.format import count, label, number, percent
from thinkrec.evaluate.report.headline import metric_of, sentences, title
from thinkrec.evaluate.report.html import document, paragraph, tiles
from thinkrec.evaluate.run_report.schema import Report

SECTIONS = (
    ("Ranking quality", quality.metrics),
    ("Paired differences", quality.differences),
    ("Where it works", quality.cells),
    ("Calibration", quality.calibration),
    ("Clusters and routing", clusters.clusters),
    ("Explanations", explanations.explanations),
    ("Data", data_and_training.data),
    ("Reasoning traces", data_and_training.traces),
    ("Training", data_and_training.training),
    ("Cost", cost_and_settings.cost),
    ("Settings and versions", cost_and_settings.settings),
)


def page(report: Report) -> str:
    """The whole document; `report` is what report.json holds."""
    return document(title(report), _header(report), {heading: write(report) for heading, write in SECTIONS})


def _header(report: Report) -> str:
    best = report["best"]
    where = f"thinkrec report \u00b7 {report['run']['dir']} \u00b7 {report['run']['key'][:12]}"
    facts = [
        ("test rows", count(report["num_rows"])),
        ("test users", count(report["num_users"])),
        ("like-rate", percent(report["like_rate"])),
        (f"AUC, {label(best)}", number(metric_of(report, best, "auc"))),
        *([("weight of the language model", number(report["prior"]["model_weight"]))] if report["prior"] else []),
        ("leak audit", _audited(report["audit"])),
    ]
    said = "".join(paragraph(sentence, "" if n else "lead") for n, sentence in enumerate(sentences(report)))
    return f'<header><div class="kicker">{escape(where)}</div><h1>{escape(title(report))}</h1>{said}{tiles(facts)}</header>'


def _audited(findings: Sequence[FoundRows]) -> str:
    if not findings:
        return "not run"
    return "found rows" if any(found["num_rows"] for found in findings) else "clean"
