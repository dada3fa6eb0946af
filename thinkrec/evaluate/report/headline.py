"""What the figures say, in sentences: the same words head the HTML page and the text table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thinkrec.evaluate.metrics.table import TWO_NUMBER_BASELINE
from thinkrec.evaluate.report.format import label, number, percent, span

JUDGED = ("auc", "uauc")


def verdict(found: Mapping[str, Any]) -> str:
    """better, worse or even: a difference counts only when its whole interval lies on one side of zero."""
    if found["low"] is None:
        return "even"
    return "better" if found["low"] > 0 else "worse" if found["high"] < 0 else "even"


def difference(report: Mapping[str, Any], name: str, against: str) -> dict[str, Any] | None:
    """The paired differences of two score columns, where the report has them."""
    return next((row["metrics"] for row in report["differences"] if (row["name"], row["against"]) == (name, against)), None)


def metric_of(report: Mapping[str, Any], name: str, metric: str) -> float | None:
    """One metric of one score column, None where the report does not have it."""
    return next((row["metrics"][metric]["value"] for row in report["metrics"] if row["name"] == name), None)


def title(report: Mapping[str, Any]) -> str:
    """Is the model better than two counted numbers? Yes only where the interval says so."""
    found = difference(report, report["best"], TWO_NUMBER_BASELINE)
    if found is None:
        return "Scores of this run"
    better = [metric.upper() for metric in JUDGED if verdict(found[metric]) == "better"]
    worse = [metric.upper() for metric in JUDGED if verdict(found[metric]) == "worse"]
    if len(better) == len(JUDGED):
        return "Better than the two-number baseline"
    if better:
        other = "worse" if worse else "not better"
        rest = " and ".join(metric.upper() for metric in JUDGED if metric.upper() not in better)
        return f"Better than the two-number baseline on {' and '.join(better)}, {other} on {rest}"
    return f"Worse than the two-number baseline on {' and '.join(worse)}" if worse else "Not better than the two-number baseline"


def sentences(report: Mapping[str, Any]) -> list[str]:
    """The claim in figures, the strongest baseline, what the experts add, and the share of the possible in a planted world."""
    best = report["best"]
    said = [_against(report, best, TWO_NUMBER_BASELINE, "Against the baseline that adds the user's and the item's like-rate")]
    said.append(_strongest(report))
    if best == "fusion":
        said.append(_against(report, best, "global", "Against one adapter for all users"))
    if report.get("planted"):
        share = report["planted"]["recovered_share"]
        said.append(
            f"In this planted world the best possible AUC is {number(report['planted']['bayes_auc'])}; of the way there from chance, "
            f"the model has gone {percent(share.get(best))}, the two-number baseline {percent(share.get(TWO_NUMBER_BASELINE))}."
        )
    return [sentence for sentence in said if sentence]


def _against(report: Mapping[str, Any], name: str, against: str, opening: str) -> str:
    found = difference(report, name, against)
    if found is None:
        return ""
    means = {"better": "better", "worse": "worse", "even": "no clear difference"}
    parts = []
    for metric in JUDGED:
        step = found[metric]
        parts.append(f"{metric.upper()} {number(step['value'], True)} ({span(step, True)}), {means[verdict(step)]}")
    return f"{opening}: {'; '.join(parts)}."


def _strongest(report: Mapping[str, Any]) -> str:
    areas = {row["name"]: row["metrics"]["auc"]["value"] for row in report["metrics"]}
    counted = {row["name"]: areas[row["name"]] for row in report["metrics"] if row["kind"] == "baseline" and areas[row["name"]] is not None}
    model = areas[report["best"]]
    if not counted or model is None:
        return ""
    name = max(counted, key=lambda key: counted[key])
    place = "not below" if counted[name] >= model else "below"
    return f"The strongest baseline on AUC is {label(name)} with {number(counted[name])}, {place} the model's {number(model)}."
