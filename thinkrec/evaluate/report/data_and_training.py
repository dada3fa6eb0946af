"""Sections of the report that say what the run did: data, traces, training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Literal

from thinkrec.artefacts.ingest import Fingerprint, FoundRows
from thinkrec.artefacts.traces import AttemptFigures
from thinkrec.evaluate.report import svg
from thinkrec.evaluate.report.format import count, percent, spoken
from thinkrec.evaluate.report.html import folded, paragraph, plots, table, tiles, tree
from thinkrec.evaluate.run_report.schema import LossPoint, Report

Loss = Literal["loss", "rec", "think"]
Counted = Literal["num_asked", "num_attempts", "num_accepted", "num_hinted", "num_tokens"]
COUNTED: tuple[Counted, ...] = ("num_asked", "num_attempts", "num_accepted", "num_hinted", "num_tokens")
LOSSES: tuple[Loss, ...] = ("loss", "rec", "think")


def data(report: Report) -> str:
    """What the leak audit found, and what each split holds."""
    return "".join(["<h3>Leak audit</h3>", _audit(report["audit"]), "<h3>Splits</h3>", _fingerprint(report["fingerprint"])])


def traces(report: Report) -> str:
    """How the teachers' reasoning was gathered: what was asked, what was accepted and why the rest was not, in all and for each teacher."""
    found, figures = report["traces"], report["figures"].get("traces", {})
    if not found:
        return "".join([paragraph("No traces were handed to this report.", "note"), tree(figures)])
    facts = [
        ("rows asked", count(found["num_asked"])),
        ("answers", count(found["num_attempts"])),
        ("traces accepted", count(found["num_traces"])),
        ("rows asked with a trace", percent(found["accepted_share"])),
        ("claims that hold", percent(found["claim_rate"])),
        ("say like", percent(found["like_share"])),
        ("given the answer", percent(found["hinted_share"])),
        ("cut off", percent(found["truncated_share"])),
        ("tokens, mean", count(found["mean_tokens"])),
        ("tokens, refused ones too", count(found["num_tokens"])),
    ]
    attempts = [_attempt(row) for row in found["by_attempt"]]
    refused = [(reason, float(number), count(number)) for reason, number in (found["refused"] or {}).items()]
    drawn = plots(
        ("Accepted at which attempt", svg.bars("attempts", attempts)), ("Why answers were refused", svg.bars("refusals", refused))
    )
    return "".join([tiles(facts), drawn, _teachers(found["teachers"] or {}), folded("Figures of the stage", tree(figures))])


def training(report: Report) -> str:
    """Loss curves, all experts in one plot, and when each expert ran where."""
    drawn, experts = [], {}
    for name, points in report["training"].items():
        if name.startswith("expert "):
            experts[name] = _curve(points, "loss")
        else:
            parts = {part: _curve(points, part) for part in LOSSES}
            drawn.append((name.capitalize(), svg.lines(name, {part: curve for part, curve in parts.items() if curve}, "step", "loss")))
    drawn.append(("Experts", svg.lines("experts", experts, "step", "loss")))
    spans = [svg.Span(f"expert {row['expert']}", int(row["group"]), row["start_s"], row["end_s"]) for row in report["timeline"]]
    drawn.append(("Experts on their worker groups", svg.gantt("expert timeline", spans)))
    known = any(drawing for _, drawing in drawn)
    return plots(*drawn) if known else paragraph("No training logs were handed to this report.", "note")


def _attempt(row: Mapping[str, int]) -> tuple[str, float, str]:
    name = f"retry {row['attempt']}" if row["attempt"] else "first answer"
    return name, float(row["num_traces"]), count(row["num_traces"])


def _teachers(told: Mapping[str, AttemptFigures]) -> str:
    rows = []
    for name, found in told.items():
        refused = ", ".join(f"{count(number)} {escape(reason)}" for reason, number in found["refused"].items())
        counts = [count(found[key]) for key in COUNTED]
        shares = [percent(found["claim_rate"]), percent(found["taste_rate"])]
        rows.append(("", [f"{escape(name)}<small>{f'refused: {refused}' if refused else 'none refused'}</small>", *counts, *shares]))
    head = ["Teacher", "rows asked", "answers", "accepted", "given the answer", "tokens", "claims that hold", "tastes that hold"]
    return table(head, rows) if rows else ""


def _audit(findings: Sequence[FoundRows]) -> str:
    rows = []
    for found in findings:
        num_rows = found["num_rows"]
        tone = "worse" if found["severity"] == "stop" else "note"
        answer = f'<span class="{tone}">{count(num_rows)} rows</span>' if num_rows else '<span class="better">none</span>'
        notes = [found["meaning"], *([f"Example: {found['examples'][0]}. Fix: {found['fix']}"] if num_rows else [])]
        rows.append(("", [escape(spoken(found["check"])) + "".join(f"<small>{escape(note)}</small>" for note in notes), answer]))
    return table(["Looked for", "Found"], rows)


def _fingerprint(facts: Fingerprint | None) -> str:
    if facts is None:
        return paragraph("No fingerprint was handed to this report.", "note")
    rows = []
    for name, part in facts["splits"].items():
        counts = [count(part["num_rows"]), count(part["num_users"]), count(part["num_items"])]
        first, last = (escape((day or "\u2013")[:10]) for day in (part["from"], part["to"]))
        deciles = [part["user_like_rate_deciles"][place] for place in (0, 4, 8)]
        rows.append(("", [f"{escape(name)}<small>{first} to {last}</small>", *counts, percent(part["like_rate"]), *map(percent, deciles)]))
    drawn = table(["", "rows", "users", "items", "likes", "likes of users, tenth", "median", "nine tenths"], rows)
    digest = paragraph(f"Content digest (SHA-256): {facts['sha256']}", "note digest") if "sha256" in facts else ""
    return drawn + digest + folded("Everything the fingerprint holds", tree(facts))


def _curve(points: Sequence[LossPoint], part: Loss) -> list[tuple[float, float]]:
    return [(point["step"], value) for point in points if (value := point[part]) is not None]
