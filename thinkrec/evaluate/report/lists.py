"""How good lists are, as text for the terminal: what was found, what was shown, and where others find more."""

from __future__ import annotations

from collections.abc import Sequence

from thinkrec.evaluate.metrics.lists import ListsReport
from thinkrec.evaluate.metrics.table import Interval
from thinkrec.evaluate.report.format import label, metric_name, number, span
from thinkrec.evaluate.report.headline import verdict

SHOWN = ("ndcg", "recall", "hr", "mrr", "novelty", "diversity")


def lists_text(report: ListsReport) -> str:
    """Metrics with intervals and paired differences of a report of lists, each loss in a sentence of its own."""
    served = report["metrics"][0]
    ks = [int(name.partition("@")[2]) for name in served["metrics"] if "@" in name]
    columns = [name for name in _columns(max(ks)) if name in served["metrics"]]
    rows = [["", *map(metric_name, columns), *(("coverage", "Gini", "popularity lift") if report["exposure"] else ())]]
    for row in report["metrics"]:
        found = [row["metrics"].get(name) for name in columns]
        shown = report["exposure"].get(row["name"])
        cells = [f"{number(cell['value'])} ({span(cell)})" if cell else number(None) for cell in found]
        rows.append(
            [label(row["name"]), *cells, *map(number, (shown["coverage"], shown["gini"], shown["popularity_lift"]) if shown else ())]
        )
    for pair in report["differences"]:
        steps = [pair["metrics"].get(name) for name in columns]
        words = [
            f"{number(cell['value'], True)} ({span(cell, True)}) {_word(name, cell)}" if cell else ""
            for name, cell in zip(columns, steps, strict=True)
        ]
        rows.append([f"{label(pair['name'])} - {label(pair['against'])}", *words])
    head = f"{report['num_likes']:,} likes of {report['num_users']:,} users, over the full catalogue; 95 % intervals over resampled users"
    return "\n".join(
        [head, *_notes(report), "", *_aligned(rows), *_gaps(report, columns[0]), *_sampled(report, columns), *_losses(report, columns[0])]
    )


def _columns(k: int) -> list[str]:
    return [name if name in ("mrr", "novelty", "diversity") else f"{name}@{k}" for name in SHOWN]


def _word(name: str, cell: Interval) -> str:
    """Novelty and diversity are neither good nor bad."""
    return "" if name in ("novelty", "diversity") else verdict(cell)


def _notes(report: ListsReport) -> list[str]:
    notes = []
    if report.get("num_repeated"):
        notes.append(f"{report['num_repeated']:,} likes are of items that their user had met before, which are not listed: left out")
    if recall := report.get("candidate_recall"):
        notes.append(
            f"{number(recall['recall'])} of a user's likes are among his {recall['num_candidates']} candidates: no order of them finds more"
        )
    return notes


def _gaps(report: ListsReport, metric: str) -> list[str]:
    """For each way of parting the users, how well the lists serve each part, and how far the best is from the worst; of others, too."""
    lines, served = [], report["metrics"][0]["name"]
    for by, found in report.get("groups", {}).items():
        means = [f"{row['group']}: {number(row['means'][served]['value'])}" for row in found["groups"]]
        gaps = [
            f"{label(name)} {number(cell['value'])} ({span(cell)}), by chance {number(cell['by_chance'])}, p {number(cell['p'])}"
            for name, cell in found["gap"].items()
        ]
        lines += ["", f"{metric_name(metric)} by {by} of the user: {', '.join(means)}"]
        lines += [f"best less worst group (by chance: of users shuffled among the groups): {'; '.join(gaps)}"] if gaps else []
    return lines


def _sampled(report: ListsReport, columns: Sequence[str]) -> list[str]:
    """How the likes stand among items drawn at random; it says so, and that this is not how they stand in the catalogue."""
    found = report.get("sampled")
    if not found:
        return []
    columns = [name for name in columns if name in found["metrics"][0]["metrics"]]
    rows = [["", *map(metric_name, columns)]]
    for row in found["metrics"]:
        cells = [row["metrics"][name] for name in columns]
        rows.append([label(row["name"]), *(f"{number(cell['value'])} ({span(cell)})" for cell in cells)])
    said = f"not over the catalogue: a user's likes among {found['num_sampled']} items drawn at random, which may order rankers otherwise"
    if found["num_short"]:
        said += f"; for {found['num_short']:,} users fewer were left to draw, {found['num_fewest']} at the least"
    return ["", said, *_aligned(rows)]


def _losses(report: ListsReport, metric: str) -> list[str]:
    """Against whom the lists lose, or are not shown to win, in the first metric."""
    found = {row["against"]: verdict(row["metrics"][metric]) for row in report["differences"]}
    by_verdict = [(word, [label(name) for name, own in found.items() if own == word]) for word in ("worse", "even", "better")]
    said = {"worse": "loses to", "even": "is not shown to differ from", "better": "beats"}
    served = label(report["metrics"][0]["name"])
    return (
        ["", *(f"in {metric_name(metric)}, {served} {said[word]} {', '.join(names)}" for word, names in by_verdict if names)]
        if found
        else []
    )


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[at]) for row in rows if at < len(row)) for at in range(max(map(len, rows)))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip() for row in rows]
