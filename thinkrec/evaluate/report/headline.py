"""What the figures say, in sentences: the same words head the HTML page and the text table."""

from __future__ import annotations

from collections.abc import Mapping

from thinkrec.evaluate.metrics.table import PRIOR, TWO_NUMBER_BASELINE, DifferenceCell, Interval, with_prior
from thinkrec.evaluate.report.format import count, label, number, percent, span
from thinkrec.evaluate.run_report.schema import PriorFacts, Report

JUDGED = ("auc", "uauc")


def verdict(found: Interval) -> str:
    """better, worse or even: a difference counts only when its whole interval lies on one side of zero."""
    low, high = found["low"], found["high"]
    if low is None or high is None:
        return "even"
    return "better" if low > 0 else "worse" if high < 0 else "even"


def difference(report: Report, name: str, against: str) -> Mapping[str, DifferenceCell] | None:
    """The paired differences of two score columns, where the report has them."""
    return next((row["metrics"] for row in report["differences"] if (row["name"], row["against"]) == (name, against)), None)


def metric_of(report: Report, name: str, metric: str) -> float | None:
    """One metric of one score column, None where the report does not have it."""
    return next((row["metrics"][metric]["value"] for row in report["metrics"] if row["name"] == name), None)


def reference(report: Report) -> str:
    """What the scores are first held against: the counted prior, or in a run without one the two-number baseline."""
    return PRIOR if report.get("prior") else TWO_NUMBER_BASELINE


def title(report: Report) -> str:
    """What does the language model add to its prior; without one, is it better than two counted numbers? Only what intervals say."""
    found = difference(report, report["best"], reference(report))
    if found is None:
        return "Scores of this run"
    better = [metric.upper() for metric in JUDGED if verdict(found[metric]) == "better"]
    worse = [metric.upper() for metric in JUDGED if verdict(found[metric]) == "worse"]
    if report.get("prior"):
        said = [f"adds to the counted prior on {' and '.join(better)}"] * bool(better)
        said += [f"takes away {'from it' if better else 'from the counted prior'} on {' and '.join(worse)}"] * bool(worse)
        return f"The language model {' and '.join(said) or 'adds nothing to the counted prior that can be told from chance'}"
    if len(better) == len(JUDGED):
        return "Better than the two-number baseline"
    if better:
        other = "worse" if worse else "not better"
        rest = " and ".join(metric.upper() for metric in JUDGED if metric.upper() not in better)
        return f"Better than the two-number baseline on {' and '.join(better)}, {other} on {rest}"
    return f"Worse than the two-number baseline on {' and '.join(worse)}" if worse else "Not better than the two-number baseline"


def sentences(report: Report) -> list[str]:
    """The claim in figures, the strongest baseline, what the experts add, and the share of the possible in a planted world."""
    best = report["best"]
    said = []
    if prior := report.get("prior"):
        said = [_against(report, best, PRIOR, "What the language model adds to counting alone"), _weight(prior)]
    said.append(_against(report, best, TWO_NUMBER_BASELINE, "Against the baseline that adds the user's and the item's like-rate"))
    said.append(_strongest(report))
    for mixture, single in (("fusion", "global"), (with_prior("fusion"), with_prior("global"))):
        if best == mixture:
            said.append(_against(report, best, single, "Against one adapter for all users"))
    if planted := report.get("planted"):
        share, linear = planted["recovered_share"], planted.get("linear_auc")
        added_up = "" if linear is None else f", of a judge who knows all tastes and adds up what facets are worth {number(linear)}"
        said.append(
            f"In this planted world the best possible AUC is {number(planted['bayes_auc'])}{added_up}; of the way there from "
            f"chance, the model has gone {percent(share.get(best))}, the two-number baseline {percent(share.get(TWO_NUMBER_BASELINE))}."
        )
        if (beyond := planted.get("share_beyond_prior")) is not None:
            said.append(f"Of the way from the counted prior to the best possible AUC the language model has gone {percent(beyond)}.")
    return [sentence for sentence in said if sentence]


def _weight(prior: PriorFacts) -> str:
    """What the model's score weighs beside the prior."""
    weight, num_rows = prior["model_weight"], prior["num_valid_rows"]
    if not num_rows:
        return "There were no valid rows to say what the model's score weighs beside the prior: 1, as in training."
    fitted = f"The model's score weighs {number(weight)} beside the prior, by log loss on {count(num_rows)} valid rows"
    return f"{fitted}: these are the prior's scores, and the language model has no part in them." if weight == 0 else f"{fitted}."


def _against(report: Report, name: str, against: str, opening: str) -> str:
    found = difference(report, name, against)
    if found is None:
        return ""
    means = {"better": "better", "worse": "worse", "even": "no clear difference"}
    parts = []
    for metric in JUDGED:
        step = found[metric]
        parts.append(f"{metric.upper()} {number(step['value'], True)} ({span(step, True)}), {means[verdict(step)]}")
    return f"{opening}: {'; '.join(parts)}."


def _strongest(report: Report) -> str:
    areas = {row["name"]: row["metrics"]["auc"]["value"] for row in report["metrics"]}
    baselines = {row["name"] for row in report["metrics"] if row["kind"] == "baseline"}
    counted = {name: area for name, area in areas.items() if name in baselines and area is not None}
    model = areas[report["best"]]
    if not counted or model is None:
        return ""
    counted.pop(PRIOR if report.get("prior") and len(counted) > 1 else "", None)  # said before
    name = max(counted, key=lambda key: counted[key])
    place = "not below" if counted[name] >= model else "below"
    return f"The strongest baseline on AUC is {label(name)} with {number(counted[name])}, {place} the model's {number(model)}."
