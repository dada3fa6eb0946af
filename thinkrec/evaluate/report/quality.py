"""Sections of the report that say how good the scores are."""

from __future__ import annotations

from html import escape
from typing import Literal

from thinkrec.evaluate.metrics.table import HEADLINE_METRICS, DifferenceCell, Interval, MetricRow
from thinkrec.evaluate.report import svg
from thinkrec.evaluate.report.format import count, label, meaning, metric_name, number, span, spoken
from thinkrec.evaluate.report.headline import metric_of, reference, verdict
from thinkrec.evaluate.report.html import folded, paragraph, plots, table
from thinkrec.evaluate.run_report.schema import CurvePoint, Report

ERRORS: tuple[Literal["expected_error", "expected_error_width", "brier"], ...] = ("expected_error", "expected_error_width", "brier")
SEEN = {True: "seen", False: "new"}
ADDED_BY = {"seen": "{}", "route": "served by {}", "history": "after {} rows of the user", "popularity": "items with {} rows in train"}
CURVE_TITLES = {
    "history": ("AUC by length of the user's history", "user's earlier rows"),
    "popularity": ("AUC by popularity of the item", "item's rows in train"),
}


def metrics(report: Report) -> str:
    """Every scorer with its intervals, drawn and as a table."""
    drawn = [(metric_name(metric), _intervals(report, metric)) for metric in HEADLINE_METRICS]
    return "".join(
        [
            paragraph(
                "All scorers are judged on the same test rows, and the baselines see the same history labels as the model. Bars and small "
                f"figures are 95 % intervals over resampled users; the dashed line is {label(reference(report))}."
            ),
            plots(*drawn),
            table(["Scorer", *(_used(report, metric) for metric in HEADLINE_METRICS)], [_scorer(row) for row in report["metrics"]]),
            _footnote(report),
            folded("Every metric", _everything(report)),
        ]
    )


def differences(report: Report) -> str:
    """Paired differences of the best variant to the others and to the baselines."""
    rows = []
    for row in report["differences"]:
        cells = [difference(row["metrics"][metric]) for metric in HEADLINE_METRICS]
        rows.append(("", [f"{escape(label(row['name']))} \u2212 {escape(label(row['against']))}", *cells]))
    if not rows:
        return ""
    note = (
        "Both scorers on the same resampled users. Coloured where the whole interval lies on one side of zero; intervals and p know "
        "nothing of how many comparisons stand here, Holm's p is corrected for it."
    )
    return "".join([paragraph(note, "note"), table(["", *(metric_name(metric) for metric in HEADLINE_METRICS)], rows)])


def cells(report: Report) -> str:
    """AUC by whether train has seen the user and the item, by the length of the history and by the item's popularity."""
    found = {(cell["user_seen"], cell["item_seen"]): cell for cell in report["cells"]}
    places = [(user, item) for user in SEEN for item in SEEN]
    head = ["AUC"]
    for user, item in places:
        num_rows = found[user, item]["num_rows"] if (user, item) in found else 0
        head.append(f"user {SEEN[user]},<br>item {SEEN[item]}<small>{count(num_rows)} rows</small>")
    rows = []
    for row in report["metrics"]:
        areas = [estimate(found[place]["auc"][row["name"]]) if place in found else "\u2013" for place in places]
        rows.append((row["kind"], [escape(label(row["name"])), *areas]))
    note = "Does it still work for new users, new items, short histories and rare items? Seen means: has rows in train."
    return "".join([paragraph(note, "note"), table(head, rows), plots(*_curves(report)), _added(report)])


def calibration(report: Report) -> str:
    """Predicted against observed like-rates."""
    found = report["calibration"]
    curves = {label(name): [(bin_["predicted"], bin_["observed"]) for bin_ in curve["bins"]] for name, curve in found.items()}
    rows = [("", [escape(label(name)), *(number(curve[error]) for error in ERRORS)]) for name, curve in found.items()]
    note = "When the model says 70 %, do 70 % like it? Ten bins of equally many rows; on the diagonal the answer is yes."
    drawn = plots(("Predicted against observed", svg.calibration("calibration", curves)))
    return "".join([paragraph(note, "note"), drawn, table(["", *map(spoken, ERRORS)], rows)])


def estimate(found: Interval) -> str:
    """A metric over its interval, as a table cell."""
    return f"{number(found['value'])}<small>{span(found)}</small>"


def difference(found: DifferenceCell) -> str:
    """A paired difference over its interval and p, as a table cell."""
    p = "" if found["p"] is None else f"<br>p {found['p']:.3f}"
    if found["p_holm"] is not None and found["p_holm"] != found["p"]:
        p += f", Holm {found['p_holm']:.3f}"
    return f'<span class="{verdict(found)}">{number(found["value"], signed=True)}</span><small>{span(found, signed=True)}{p}</small>'


def _added(report: Report) -> str:
    """What the language model adds to the prior, part by part."""
    rows = []
    for row in report["added"]:
        name = f"{escape(ADDED_BY[row['by']].format(row['part']))}<small>{count(row['num_rows'])} rows</small>"
        rows.append(("", [name, difference(row["auc"]), difference(row["uauc"])]))
    return f"<h3>What the language model adds to the prior, where</h3>{table(['', 'AUC', 'UAUC'], rows)}" if rows else ""


def _curves(report: Report) -> list[tuple[str, str]]:
    drawn = []
    for side, (heading, x_label) in CURVE_TITLES.items():
        points = [point for point in report["curves"] if point["by"] == side]
        series: dict[str, list[svg.Bar]] = {}
        for point in points:
            bar = svg.Bar(point["group"], point["auc"], point["low"], point["high"])
            series.setdefault(label(point["name"]), []).append(bar)
        first = [point for point in points if point["name"] == points[0]["name"]]
        labels = [_ends(point) for point in first]
        drawn.append((heading, svg.groups(heading, labels, series, x_label)))
    return drawn


def _ends(point: CurvePoint) -> tuple[str, str]:
    first, last = count(point["first"]), count(point["last"])
    return (first, "") if first == last else (first, f"to {last}")


def _intervals(report: Report, metric: str) -> str:
    rows = []
    for row in report["metrics"]:
        found = row["metrics"][metric]
        rows.append(svg.Bar(label(row["name"]), found["value"], found["low"], found["high"], strong=row["kind"] == "model"))
    return svg.intervals(f"{metric} with 95 % intervals", rows, metric_of(report, reference(report), metric))


def _used(report: Report, metric: str) -> str:
    found = report["metrics"][0]["metrics"][metric]
    return f"{_defined(metric)}<small>{count(found['num_users'])} users,<br>{count(found['num_dropped'])} dropped</small>"


def _defined(metric: str) -> str:
    """The name of a metric, with what it measures on hover."""
    return f'<abbr title="{escape(meaning(metric))}">{escape(metric_name(metric))}</abbr>'


def _footnote(report: Report) -> str:
    """The same definitions for paper and phones, and who was left out."""
    said = [f"<b>{escape(metric_name(metric))}</b>: {escape(meaning(metric))}." for metric in HEADLINE_METRICS]
    dropped = (
        "Dropped users have rows of one class only (UAUC) or no like among at least two rows (NDCG, MAP). Ties count as their average."
    )
    return f'<p class="note">{" ".join(said)} {dropped}</p>'


def _everything(report: Report) -> str:
    """All metrics of all scorers."""
    scorers = report["metrics"]
    rows = []
    for metric, found in scorers[0]["metrics"].items():
        users = f"{count(found['num_users'])}<small>{count(found['num_dropped'])} dropped</small>"
        rows.append(("", [_defined(metric), users, *(estimate(row["metrics"][metric]) for row in scorers)]))
    return table(["Metric", "Users", *(escape(label(row["name"])) for row in scorers)], rows)


def _scorer(row: MetricRow) -> tuple[str, list[str]]:
    name = f"{escape(label(row['name']))}<small>{escape(row['meaning'])}</small>"
    return row["kind"], [name, *(estimate(row["metrics"][metric]) for metric in HEADLINE_METRICS)]
