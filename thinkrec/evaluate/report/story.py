"""Sections of the report that say what the run did: users, data, traces, training, explanations, settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from thinkrec.evaluate.report import svg
from thinkrec.evaluate.report.html import folded, paragraph, plots, section, table, tiles, tree
from thinkrec.evaluate.report.quality import estimate
from thinkrec.evaluate.report.words import label, percent

Report = Mapping[str, Any]

LABELS = {1: "liked it", 0: "did not like it"}


def clusters(report: Report) -> str:
    """Where rows were routed, how good that was, and who is in each cluster."""
    shares = [(row["route"], row["num_rows"] / report["num_rows"]) for row in report["routes"]]
    sizes = [(f"cluster {row['cluster']}", float(row["num_users"]), f"{row['num_users']:,} users") for row in report["portraits"]]
    models = [row["name"] for row in report["metrics"] if row["kind"] == "model"]
    groups = [(f"route: {row['route']}", row) for row in report["routes"]] + [(_cluster(row["cluster"]), row) for row in report["clusters"]]
    rows = []
    for name, group in groups:
        areas = [estimate(group["auc"][model]) for model in models]
        rows.append(("", [f"{escape(name)}<small>{group['num_rows']:,} test rows</small>", *areas]))
    difference = report["figures"].get("cluster", {}).get("cohens_d_max")
    said = "" if difference is None else f"Largest difference between two clusters in train rows per user, Cohen's d: {difference:.2f}."
    return section(
        "Clusters and routing",
        paragraph(said if report["portraits"] else "No cluster assignment was handed to this report.", "note"),
        plots(
            ("Where test rows were routed", svg.bars("routing shares", [(route, share, percent(share)) for route, share in shares])),
            ("Users per cluster", svg.bars("cluster sizes", sizes)),
        ),
        table(["AUC", *(escape(label(model)) for model in models)], rows),
        _cards([_portrait(row) for row in report["portraits"]]),
    )


def data(report: Report) -> str:
    """What the leak audit found, and what each split holds."""
    return section("Data", "<h3>Leak audit</h3>", _audit(report["audit"]), "<h3>Splits</h3>", _fingerprint(report["fingerprint"]))


def traces(report: Report) -> str:
    """How the teacher's reasoning was gathered."""
    found, figures = report["traces"], report["figures"].get("traces", {})
    if not found:
        return section("Reasoning traces", paragraph("No traces were handed to this report.", "note"), tree(figures))
    shares = [
        ("traces", f"{found['num_traces']:,}"),
        ("say like", percent(found["like_share"])),
        ("given the answer", percent(found["hinted_share"])),
        ("cut off", percent(found["truncated_share"])),
        ("tokens, mean", f"{found['mean_tokens']:.0f}"),
    ]
    attempts = [(f"attempt {row['attempt']}", float(row["num_traces"]), f"{row['num_traces']:,}") for row in found["by_attempt"]]
    drawn = plots(("Accepted at which attempt", svg.bars("attempts", attempts)))
    return section("Reasoning traces", tiles(shares), drawn, folded("Figures of the stage", tree(figures)))


def training(report: Report) -> str:
    """Loss curves, all experts in one plot, and when each expert ran where."""
    drawn, experts = [], {}
    for name, points in report["training"].items():
        if name.startswith("expert "):
            experts[name] = _curve(points, "loss")
        else:
            parts = {part: _curve(points, part) for part in ("loss", "rec", "think")}
            drawn.append((name.capitalize(), svg.lines(name, {part: curve for part, curve in parts.items() if curve}, "step", "loss")))
    drawn.append(("Experts", svg.lines("experts", experts, "step", "loss")))
    spans = [svg.Span(f"expert {row['expert']}", int(row["group"]), row["start_s"], row["end_s"]) for row in report["timeline"]]
    drawn.append(("Experts on their worker groups", svg.gantt("expert timeline", spans)))
    known = any(drawing for _, drawing in drawn)
    return section("Training", plots(*drawn) if known else paragraph("No training logs were handed to this report.", "note"))


def explanations(report: Report) -> str:
    """What the model says about some test rows, with what it was shown."""
    found = report["explanations"]
    if not found:
        return section("Explanations", paragraph("No explanations were handed to this report.", "note"))
    facts = [
        ("rows explained", f"{found['num_rows']:,}"),
        ("cut off", percent(found["truncated_share"])),
    ]
    return section("Explanations", tiles(facts), _cards([_explanation(row) for row in found["rows"]]))


def settings(report: Report) -> str:
    """Everything needed to make this run again."""
    return section(
        "Settings and versions",
        folded("Every setting of this run", tree(report["settings"])),
        folded("Versions of the packages", tree(report["versions"])),
        folded("Figures of every stage", tree(report["figures"])),
    )


def _portrait(row: Report) -> str:
    chips = _chips([f"{found['keyword']} \u00d7{found['lift']:.1f}" for found in row["keywords"]])
    facts = paragraph(f"{row['num_users']:,} users, {row['num_likes']:,} likes in train", "note")
    return f"<h3>Cluster {row['cluster']}</h3>{facts}{chips or paragraph('No keyword stands out.', 'note')}"


def _explanation(row: Report) -> str:
    truth = LABELS.get(row["label"], "label unknown")
    chips = _chips([f"user {row['user_id']}", row["route"], f"says {row['verdict']}", f"p {percent(row['p_like'])}", truth])
    prompt = folded("What the model was shown", f"<pre>{escape(row['prompt'])}</pre>")
    return f"<h3>{escape(row['title'])}</h3>{chips}{paragraph(row['text'])}{prompt}"


def _audit(findings: Sequence[Report]) -> str:
    rows = []
    for found in findings:
        num_rows = found["num_rows"]
        tone = "worse" if found["severity"] == "stop" else "note"
        answer = f'<span class="{tone}">{num_rows:,} rows</span>' if num_rows else '<span class="better">none</span>'
        notes = [found["meaning"], *([f"Example: {found['examples'][0]}. Mend: {found['mend']}"] if num_rows else [])]
        rows.append(("", [escape(found["check"].replace("_", " ")) + "".join(f"<small>{escape(note)}</small>" for note in notes), answer]))
    return table(["Looked for", "Found"], rows)


def _fingerprint(facts: Report | None) -> str:
    if facts is None:
        return paragraph("No fingerprint was handed to this report.", "note")
    rows = []
    for name, part in facts["splits"].items():
        counts = [f"{part[key]:,}" for key in ("num_rows", "num_users", "num_items")]
        first, last = (escape((part[key] or "\u2013")[:10]) for key in ("from", "to"))
        rows.append(("", [f"{escape(name)}<small>{first} to {last}</small>", *counts, percent(part["like_rate"])]))
    return table(["", "rows", "users", "items", "likes"], rows) + folded("Everything the fingerprint holds", tree(facts))


def _cards(cards: Sequence[str]) -> str:
    return '<div class="cards">' + "".join(f'<div class="card">{card}</div>' for card in cards) + "</div>" if cards else ""


def _chips(texts: Sequence[str]) -> str:
    return "".join(f'<span class="chip">{escape(text)}</span>' for text in texts)


def _curve(points: Sequence[Report], part: str) -> list[tuple[float, float]]:
    return [(point["step"], point[part]) for point in points if point[part] is not None]


def _cluster(cluster: int) -> str:
    return f"cluster {cluster}" if cluster >= 0 else "no vector"
