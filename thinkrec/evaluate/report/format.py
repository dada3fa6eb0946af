"""Numbers, names and times as people read them."""

from __future__ import annotations

from thinkrec.evaluate.metrics.table import Interval

LABELS = {
    "fusion": "Expert mixture",
    "experts": "Nearest expert",
    "global": "Global adapter",
    "direct": "Mixture, not thinking",
    "prior+fusion": "Prior + language model",
    "prior+experts": "Prior + nearest expert",
    "prior+global": "Prior + global adapter",
    "prior+direct": "Prior + mixture, not thinking",
    "prior": "Counted prior (no language model)",
    "model": "Language model alone",
    "retrieval": "Candidates in their own order",
    "history": "Neighbours of the last likes",
    "popular": "Most liked in train",
    "item_knn": "Item-kNN",
    "two_hop": "Two-hop graph",
    "item_rate": "Item rate",
    "user_item_rate": "User + item rate",
    "history_rate": "History rate",
    "logistic": "Logistic",
    "mf": "MF encoder",
    "lightgcn": "LightGCN encoder",
    "sasrec": "SASRec encoder",
}
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


def size(num_bytes: float | None) -> str:
    """Bytes in the unit that leaves at most four digits."""
    if num_bytes is None:
        return "\u2013"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if num_bytes < 1024:
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:.1f} TiB"


def plain(value: object) -> str:
    """Any leaf of report.json."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def span(found: Interval, signed: bool = False) -> str:
    """The interval of an estimate or difference, as `low to high`."""
    return "" if found["low"] is None else f"{number(found['low'], signed)} to {number(found['high'], signed)}"
