"""Sections of the report that say how good the scores are."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from thinkrec.evaluate.report import svg
from thinkrec.evaluate.report.html import paragraph, plots, section, table, tiles
from thinkrec.evaluate.report.words import BAR, COLUMNS, label, metric_of, number, span, verdict

Report = Mapping[str, Any]

SEEN = {True: "seen", False: "new"}


def metrics(report: Report) -> str:
    """Every scorer with its intervals, drawn and as a table."""
    drawn = [(metric.upper(), _intervals(report, metric)) for metric in COLUMNS]
    return section(
        "Ranking quality",
        paragraph(
            "All scorers are judged on the same test rows, and the baselines see the same history labels as the model. Bars and small "
            "figures are 95 % intervals over resampled users; the dashed line is the two-number baseline."
        ),
        plots(*drawn),
        table(["Scorer", *(_used(report, metric) for metric in COLUMNS)], [_scorer(row) for row in report["metrics"]]),
        paragraph(
            "AUC: all rows together. UAUC: mean of each user's own AUC, over users with likes and dislikes. NDCG and MAP at 5: users with "
            "a like and at least two rows; AP is divided by min(5, likes). Tied scores count as their average over all orders.",
            "note",
        ),
    )


def differences(report: Report) -> str:
    """Paired differences of the best variant to the others and to the baselines."""
    rows = []
    for row in report["differences"]:
        cells = [_difference(row["metrics"][metric]) for metric in COLUMNS]
        rows.append(("", [f"{escape(label(row['name']))} \u2212 {escape(label(row['against']))}", *cells]))
    if not rows:
        return ""
    note = "Both scorers on the same resampled users. Coloured where the whole interval lies on one side of zero."
    return section("Paired differences", paragraph(note, "note"), table(["", *(metric.upper() for metric in COLUMNS)], rows))


def cells(report: Report) -> str:
    """AUC by whether train has seen the user and the item."""
    found = {(cell["user_seen"], cell["item_seen"]): cell for cell in report["cells"]}
    places = [(user, item) for user in SEEN for item in SEEN]
    head = ["AUC"]
    for user, item in places:
        num_rows = found[user, item]["num_rows"] if (user, item) in found else 0
        head.append(f"user {SEEN[user]},<br>item {SEEN[item]}<small>{num_rows:,} rows</small>")
    rows = []
    for row in report["metrics"]:
        areas = [estimate(found[place]["auc"][row["name"]]) if place in found else "\u2013" for place in places]
        rows.append((row["kind"], [escape(label(row["name"])), *areas]))
    return section("New users, new items", paragraph("Seen and new: in train or not.", "note"), table(head, rows))


def calibration(report: Report) -> str:
    """Predicted against observed like-rates."""
    found = report["calibration"]
    curves = {label(name): [(bin_["predicted"], bin_["observed"]) for bin_ in curve["bins"]] for name, curve in found.items()}
    errors = [(f"{label(name)}: calibration error", number(curve["expected_error"])) for name, curve in found.items()]
    note = "When the model says 70 %, do 70 % like it? Ten bins of equally many rows; on the diagonal the answer is yes."
    drawn = plots(("Predicted against observed", svg.calibration("calibration", curves)))
    return section("Calibration", paragraph(note, "note"), drawn, tiles(errors))


def estimate(found: Report) -> str:
    """A metric over its interval, as a table cell."""
    return f"{number(found['value'])}<small>{span(found)}</small>"


def _intervals(report: Report, metric: str) -> str:
    rows = []
    for row in report["metrics"]:
        found = row["metrics"][metric]
        rows.append(svg.Bar(label(row["name"]), found["value"], found["low"], found["high"], strong=row["kind"] == "model"))
    return svg.intervals(f"{metric} with 95 % intervals", rows, metric_of(report, BAR, metric))


def _used(report: Report, metric: str) -> str:
    found = report["metrics"][0]["metrics"][metric]
    return f"{metric.upper()}<small>{found['num_users']:,} users,<br>{found['num_dropped']:,} dropped</small>"


def _scorer(row: Report) -> tuple[str, list[str]]:
    name = f"{escape(label(row['name']))}<small>{escape(row['meaning'])}</small>"
    return row["kind"], [name, *(estimate(row["metrics"][metric]) for metric in COLUMNS)]


def _difference(found: Report) -> str:
    p = "" if found["p"] is None else f"<br>p {found['p']:.3f}"
    return f'<span class="{verdict(found)}">{number(found["value"], signed=True)}</span><small>{span(found, signed=True)}{p}</small>'
