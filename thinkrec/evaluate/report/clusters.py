"""The section of the report about clusters: who is in them, how far apart they are, and who serves whom."""

from __future__ import annotations

from html import escape

from thinkrec.evaluate.report import svg
from thinkrec.evaluate.report.format import count, label, percent
from thinkrec.evaluate.report.html import cards, chips, paragraph, plots, table
from thinkrec.evaluate.report.quality import estimate
from thinkrec.evaluate.run_report.schema import Portrait, Report


def clusters(report: Report) -> str:
    """Where rows were routed, how good that was, who is in each cluster, and a map of all users."""
    if not report["portraits"]:
        return "".join([paragraph("No cluster assignment was handed to this report.", "note"), _areas(report)])
    routes = [(row["route"], row["share"], percent(row["share"])) for row in report["routes"]]
    sizes = [(_name(row["cluster"]), float(row["num_users"]), f"{count(row['num_users'])} users") for row in report["portraits"]]
    note = "Users are clustered by taste. Each cluster has an expert; a user is served by one expert, a mixture, or the global adapter."
    return "".join(
        [
            paragraph(note, "note"),
            plots(
                (
                    "Where test rows were routed",
                    f"{svg.bars('routing shares', routes)}<h3>Users per cluster</h3>{svg.bars('cluster sizes', sizes)}",
                ),
                ("Users on a map", _map(report)),
            ),
            cards([_portrait(row) for row in report["portraits"]]),
            _areas(report),
            _distances(report),
        ]
    )


def _areas(report: Report) -> str:
    """AUC on each route and in each cluster."""
    groups = [(f"route: {row['route']}", row) for row in report["routes"]] + [(_name(row["cluster"]), row) for row in report["clusters"]]
    scorers, rows = list(report["routes"][0]["auc"]), []
    for name, group in groups:
        areas = [estimate(group["auc"][scorer]) for scorer in scorers]
        rows.append(("", [f"{escape(name)}<small>{count(group['num_rows'])} test rows</small>", *areas]))
    return table(["AUC", *(escape(label(scorer)) for scorer in scorers)], rows)


def _map(report: Report) -> str:
    found = report["map"]
    if not found:
        return ""
    names = [_name(number) for number in range(len(found["centroids"]))]
    drawn = svg.scatter("users coloured by cluster", found["points"], found["centroids"], names)
    shown = f"{count(found['num_shown'])} of {count(found['num_users'])} users with a vector"
    share = f"the two directions (PCA) in which they differ most, {percent(found['explained_share'])} of all variance"
    return drawn + paragraph(f"{shown} as the router sees them, along {share}. Large dots are the centres.", "note")


def _distances(report: Report) -> str:
    """Cohen's d of every pair of clusters."""
    matrix = report["figures"].get("cluster", {}).get("cohens_d")
    if not matrix:
        return ""
    rows = []
    for one, line in enumerate(matrix):
        cells = ["" if one == other else "\u2013" if d is None else f"{d:.2f}" for other, d in enumerate(line)]
        rows.append(("", [_name(one), *cells]))
    note = "Difference in activity (train rows per user) between two clusters, Cohen's d: about 0.2 is small, 0.5 medium, 0.8 large."
    return paragraph(note, "note") + table(["Cohen's d", *(_name(number) for number in range(len(matrix)))], rows)


def _portrait(row: Portrait) -> str:
    words = chips([f"{found['keyword']} \u00d7{found['lift']:.1f}" for found in row["keywords"]])
    facts = paragraph(f"{count(row['num_users'])} users, {count(row['num_likes'])} likes in train", "note")
    return f"<h3>{escape(_name(row['cluster']).capitalize())}</h3>{facts}{words or paragraph('No keyword stands out.', 'note')}"


def _name(cluster: int) -> str:
    return f"cluster {cluster}" if cluster >= 0 else "no vector"
