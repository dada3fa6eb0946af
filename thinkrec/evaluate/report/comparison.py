"""The comparison of a sweep's trials as one HTML file that needs nothing else; the same parts and style as the report of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from thinkrec.evaluate.comparison_schema import Comparison, TrialFacts
from thinkrec.evaluate.metrics.table import HEADLINE_METRICS, Interval
from thinkrec.evaluate.report import svg
from thinkrec.evaluate.report.format import count, label, meaning, metric_name, number, percent, plain, size, span
from thinkrec.evaluate.report.headline import verdict
from thinkrec.evaluate.report.html import document, folded, paragraph, plots, table, tiles, tree
from thinkrec.evaluate.report.quality import difference, estimate
from thinkrec.text.duration import duration

MAX_NAME = 16  # letters beside a drawing
SAID = {"better": "Better", "worse": "Worse", "even": "No clear difference"}


def comparison_page(found: Comparison) -> str:
    """The whole document; `found` is what comparison.json holds."""
    bodies = {
        "Trials": _trials(found),
        "Paired differences": _differences(found),
        "Over the varied setting": _curve(found),
        "Over seeds": _seeds(found),
        "Experts, traces, encoders": _parts(found),
        "Cost": _cost(found),
        "Settings that differ": _settings(found),
        "Failed trials": "".join(paragraph(f"{name}: {why}", "worse") for name, why in found["failed"].items()),
        "All metrics and versions": _everything(found),
    }
    return document(str(found["title"]), _header(found), bodies)


def conclusions(found: Comparison) -> list[str]:
    """Which trials are better or worse than the reference on the headline metric, by their intervals, in a sentence each."""
    metric, name = found["metric"], metric_name(found["metric"])
    said = []
    for kind, word in SAID.items():
        steps = [(row["name"], row["metrics"][metric]) for row in found["differences"] if verdict(row["metrics"][metric]) == kind]
        if steps:
            told = "; ".join(f"{trial} {number(step['value'], True)} ({span(step, True)})" for trial, step in steps)
            said.append(f"{word} than {found['reference']} on {name}: {told}." if kind != "even" else f"{word} on {name}: {told}.")
    said += [f"{trial} is not held against {found['reference']}: {why}." for trial, why in found["unpaired"].items()]
    return said


def _header(found: Comparison) -> str:
    facts = [
        ("trials", count(len(found["trials"]))),
        ("reference", found["reference"]),
        ("test rows", count(found["num_rows"])),
        ("test users", count(found["num_users"])),
        ("time of all stages", duration(found["wall_s"])),
    ]
    said = "".join(paragraph(sentence, "" if n else "lead") for n, sentence in enumerate(conclusions(found)))
    return f'<header><div class="kicker">thinkrec sweep</div><h1>{escape(found["title"])}</h1>{said}{tiles(facts)}</header>'


def _trials(found: Comparison) -> str:
    drawn = [(metric_name(metric), _intervals(found, metric)) for metric in HEADLINE_METRICS]
    facts = {row["name"]: row for row in found["trials"]}
    rows = []
    for row in found["metrics"]:
        told = f"{escape(row['name'])}<small>{escape(_about(facts[row['name']], found))}</small>"
        rows.append((row["kind"], [told, *(estimate(row["metrics"][metric]) for metric in HEADLINE_METRICS)]))
    note = (
        "Dots and large figures are the metrics on the test rows, bars and small figures their 95 % intervals over resampled users. "
        "The dashed line is the reference."
    )
    meanings = " ".join(f"<b>{escape(metric_name(metric))}</b>: {escape(meaning(metric))}." for metric in HEADLINE_METRICS)
    head = ["Trial", *(metric_name(metric) for metric in HEADLINE_METRICS)]
    return "".join([paragraph(note), plots(*drawn), table(head, rows), f'<p class="note">{meanings}</p>'])


def _about(facts: TrialFacts, found: Comparison) -> str:
    """The scores compared and, where there are other test rows, how many."""
    rows = f", {count(facts['num_rows'])} rows of {count(facts['num_users'])} users" if facts["name"] in found["unpaired"] else ""
    return f"{label(facts['variant'])}{rows}"


def _intervals(found: Comparison, metric: str) -> str:
    bars = []
    for row in found["metrics"]:
        cell = row["metrics"][metric]
        bars.append(svg.Bar(_short(row["name"]), cell["value"], cell["low"], cell["high"], strong=row["kind"] == "model"))
    reference = next((bar.value for bar in bars if bar.strong), None)
    return svg.intervals(f"{metric} with 95 % intervals", bars, reference)


def _differences(found: Comparison) -> str:
    rows = []
    for row in found["differences"]:
        cells = [difference(row["metrics"][metric]) for metric in HEADLINE_METRICS]
        rows.append(("", [f"{escape(row['name'])} \u2212 {escape(row['against'])}", *cells]))
    for name, why in found["unpaired"].items():
        rows.append(("", [f"{escape(name)}<small>{escape(why)}: no difference is claimed</small>", *["\u2013"] * len(HEADLINE_METRICS)]))
    note = (
        f"The same test rows and the same {count(found['num_bootstrap'])} resamples of their users on both sides. Coloured where the whole "
        "95 % interval lies on one side of zero. The intervals and p know the chance of users, not that of training; Holm's p is corrected "
        "for the number of trials."
    )
    return "".join([paragraph(note, "note"), table(["", *(metric_name(metric) for metric in HEADLINE_METRICS)], rows)]) if rows else ""


def _curve(found: Comparison) -> str:
    """The metrics over the one number that the trials differ in; and METEOR, alone and against AUC, where there are explanations.

    One curve is of one set of test rows: trials on others are left out.
    """
    key = found["varied"]
    if key is None:
        return ""
    at, seeds = found["changed"][key], {row["name"]: f"seed {row['seed']}" for row in found["trials"]}
    metrics = [row for row in found["metrics"] if row["name"] not in found["unpaired"]]
    trials = [row for row in found["trials"] if row["name"] not in found["unpaired"]]
    drawn = []
    for metric in HEADLINE_METRICS:
        points = [(row["name"], row["metrics"][metric]) for row in metrics]
        drawn.append((metric_name(metric), svg.curves(metric, _series(points, at, seeds), key)))
    spoken = [(row["name"], meteor) for row in trials if (meteor := row["meteor"])]
    drawn.append(("METEOR of the explanations", svg.curves("METEOR", _series(spoken, at, seeds), key)))
    both: dict[str, list[tuple[float, float, str]]] = {}
    areas = {row["name"]: row["metrics"]["auc"]["value"] for row in metrics}
    for name, meteor in sorted(spoken, key=lambda trial: at[trial[0]]):
        area, value = areas[name], meteor["value"]
        if area is not None and value is not None:
            both.setdefault(seeds[name], []).append((area, value, plain(at[name])))
    drawn.append((f"METEOR against AUC, dots by {key}", svg.trade("METEOR against AUC", both, "AUC", "METEOR")))
    note = f"The trials differ in {key} alone." + (" Those on other test rows are not drawn." if found["unpaired"] else "")
    return paragraph(note, "note") + plots(*drawn)


def _series(
    points: Sequence[tuple[str, Interval]], at: Mapping[str, float], seeds: Mapping[str, str]
) -> dict[str, list[tuple[float, svg.Bar]]]:
    """(x, bar) by seed."""
    series: dict[str, list[tuple[float, svg.Bar]]] = {}
    for name, cell in points:
        series.setdefault(seeds[name], []).append((at[name], svg.Bar(name, cell["value"], cell["low"], cell["high"])))
    return series


def _seeds(found: Comparison) -> str:
    rows = []
    for row in found["seeds"]:
        cells = [f"{_spread(row[metric]['value'])}<small>{_spread(row[metric]['difference'], True)}</small>" for metric in HEADLINE_METRICS]
        rows.append(("", [f"{escape(row['name'])}<small>{count(row['num_seeds'])} seeds</small>", *cells]))
    note = "Mean and standard deviation over the seeds; below, of the difference to the reference of the same seed."
    return paragraph(note, "note") + table(["Trial", *(metric_name(metric) for metric in HEADLINE_METRICS)], rows) if rows else ""


def _spread(found: Mapping[str, float | None], signed: bool = False) -> str:
    return "" if found["mean"] is None else f"{number(found['mean'], signed)} \u00b1 {number(found['sd'])}"


def _short(name: str) -> str:
    """A trial's name where there is little room: both its ends, since a grid and a seed stand at the end."""
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME // 2 - 1]}\u2026{name[-(MAX_NAME // 2) :]}"


def _parts(found: Comparison) -> str:
    """What each trial is made of."""
    rows = []
    for row in found["trials"]:
        d = "\u2013" if row["cohens_d_max"] is None else f"{row['cohens_d_max']:.2f}"
        experts = f"{count(row['num_experts'])}<small>users {escape(', '.join(map(count, row['sizes'])))}</small>"
        traces = f"{percent(row['trace_share'])}<small>{count(row['num_traces'])} traces</small>"
        encoder = f"{number(row['encoder']['auc'])}<small>{escape(label(row['encoder']['name']))}</small>" if row["encoder"] else "\u2013"
        meteor = f"{estimate(row['meteor'])}<small>shuffled {number(row['meteor']['shuffled'])}</small>" if row["meteor"] else "\u2013"
        rows.append(("", [escape(row["name"]), experts, d, traces, encoder, meteor]))
    kinds = sorted({row["meteor"]["references"] for row in found["trials"] if row["meteor"]})
    note = (
        "Experts with the train users of each cluster; without experts the global adapter serves everybody. Cohen's d: the largest between "
        "two clusters, of their users' train row counts. Traces: their share in a batch of training. Encoder: AUC of its own scores. "
    ) + (f"METEOR: of the explanations against {' and '.join(kinds)} references; shuffled, against those of other rows." if kinds else "")
    return table(["Trial", "experts", "Cohen's d", "traces", "encoder alone", "METEOR"], rows) + paragraph(note, "note")


def _cost(found: Comparison) -> str:
    costs = {row["name"]: row["cost"] for row in found["trials"]}
    spent = [(_short(name), cost["own_wall_s"] or 0.0, duration(cost["own_wall_s"])) for name, cost in costs.items()]
    rows = []
    for name, cost in costs.items():
        hours = "\u2013" if cost["gpu_hours"] is None else f"{cost['gpu_hours']:.2f}"
        cells = [duration(cost["own_wall_s"]), duration(cost["wall_s"]), hours, count(cost["num_tokens"]), size(cost["num_bytes"])]
        rows.append(("", [escape(name), *cells]))
    note = (
        "Own: the stages that no other trial shares. All: what the trial would cost alone, shared stages counted in full. Wall time of "
        "stages as they were made; stages made at the same time slow each other down."
    )
    drawn = plots(("Own wall time", svg.bars("own wall time", spent)))
    return drawn + table(["Trial", "own", "all", "GPU-hours", "tokens", "on disk"], rows) + paragraph(note, "note")


def _settings(found: Comparison) -> str:
    names = [row["name"] for row in found["trials"]]
    rows = [("", [escape(key), *(escape(plain(values[name])) for name in names)]) for key, values in found["changed"].items()]
    return table(["Setting", *map(escape, names)], rows) if rows else ""


def _everything(found: Comparison) -> str:
    rows = []
    for metric, first in found["metrics"][0]["metrics"].items():
        users = f"{count(first['num_users'])}<small>{count(first['num_dropped'])} dropped</small>"
        cells = [estimate(row["metrics"][metric]) if metric in row["metrics"] else "\u2013" for row in found["metrics"]]
        rows.append(("", [escape(metric_name(metric)), users, *cells]))
    head = ["Metric", "Users", *(escape(row["name"]) for row in found["metrics"])]
    return folded("Every metric", table(head, rows)) + folded("Versions of the packages", tree(found["versions"]))
