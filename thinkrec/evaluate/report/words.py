"""What the figures say, in sentences: the same words head the HTML page and the text table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LABELS = {
    "fusion": "Expert mixture",
    "experts": "Nearest expert",
    "global": "Global adapter",
    "direct": "Mixture, not thinking",
    "item_rate": "Item rate",
    "user_item_rate": "User + item rate",
    "history_rate": "History rate",
    "logistic": "Logistic",
    "mf": "MF encoder",
    "lightgcn": "LightGCN encoder",
    "sasrec": "SASRec encoder",
}
BAR = "user_item_rate"  # the two-number baseline every claim is measured against
JUDGED = ("auc", "uauc")
MEANINGS = {
    "auc": "chance that a liked row is scored above a disliked one, all users' rows together",
    "uauc": "AUC within each user, mean over users with likes and dislikes",
    "gauc_rows": "AUC within each user, weighted by the user's rows",
    "gauc_pos": "AUC within each user, weighted by the user's likes",
    "ndcg": "likes among each user's first {k} rows, early places counting more, over the best possible",
    "map": "precision at each like among the first {k} rows, over min({k}, likes)",
    "hr": "chance that a like stands among the first {k} rows",
    "log_loss": "mean -log of the probability given to what happened",
    "brier": "mean squared distance of p_like to what happened",
    "ece": "mean distance of predicted to observed like-rate over bins",
}
COLUMNS = ("auc", "uauc", "ndcg@5", "map@5")  # what tables show; report.json holds all


def label(name: str) -> str:
    """The reader's name of a score column."""
    return LABELS.get(name, name)


def metric_name(metric: str) -> str:
    """The reader's name of a metric: `NDCG@5` of `ndcg@5`."""
    return metric.upper().replace("_", " ")


def meaning(metric: str) -> str:
    """What a metric measures, in a line; empty for one that is not known here."""
    name, _, k = metric.partition("@")
    return MEANINGS.get(name, "").format(k=k)


def spoken(name: str) -> str:
    """A key of report.json as words."""
    return name.removeprefix("num_").replace("_", " ")


def count(value: float | None) -> str:
    """A whole number with thousands set apart, or a dash."""
    return "\u2013" if value is None else f"{value:,.0f}"


def number(value: float | None, signed: bool = False) -> str:
    """Three decimals, or a dash where nothing is defined."""
    if value is None:
        return "\u2013"
    rounded = round(value, 3) or 0.0  # never a negative zero
    return (f"{rounded:+.3f}" if signed else f"{rounded:.3f}").replace("-", "\u2212")


def percent(value: float | None) -> str:
    """A share as whole percent."""
    return "\u2013" if value is None else f"{100 * value:.0f} %"


def duration(seconds: float | None) -> str:
    """Seconds, minutes or hours, two figures that matter."""
    if seconds is None:
        return "\u2013"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def size(num_bytes: float | None) -> str:
    """Bytes in the unit that leaves at most four digits."""
    if num_bytes is None:
        return "\u2013"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if num_bytes < 1024:
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:.1f} TiB"


def plain(value: Any) -> str:
    """Any leaf of report.json."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def span(found: Mapping[str, Any], signed: bool = False) -> str:
    """The interval of an estimate or difference, as `low to high`."""
    return "" if found["low"] is None else f"{number(found['low'], signed)} to {number(found['high'], signed)}"


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
    found = difference(report, report["best"], BAR)
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
    said = [_against(report, best, BAR, "Against the baseline that adds the user's and the item's like-rate")]
    said.append(_strongest(report))
    if best == "fusion":
        said.append(_against(report, best, "global", "Against one adapter for all users"))
    if report.get("planted"):
        share = report["planted"]["recovered_share"]
        said.append(
            f"In this planted world the best possible AUC is {number(report['planted']['bayes_auc'])}; of the way there from chance, "
            f"the model has gone {percent(share.get(best))}, the two-number baseline {percent(share.get(BAR))}."
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
