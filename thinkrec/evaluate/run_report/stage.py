"""The stage "evaluate": every score variant against the trivial baselines on the same test rows, and the report of the whole run."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from thinkrec.artefacts.clusters import read_assignment, read_assignment_facts, read_clusters
from thinkrec.artefacts.ingest import bucket_files
from thinkrec.artefacts.scores import read_model_weight
from thinkrec.evaluate.metrics.calibration import calibration
from thinkrec.evaluate.metrics.groups import auc_by
from thinkrec.evaluate.metrics.intervals import Resampled
from thinkrec.evaluate.metrics.ranking import pooled_auc
from thinkrec.evaluate.metrics.table import (
    ENCODERS,
    HEADLINE_METRICS,
    MODEL,
    PRIOR,
    MetricRow,
    difference_rows,
    measure,
    metric_rows,
    with_prior,
    write_metrics,
)
from thinkrec.evaluate.report.page import page
from thinkrec.evaluate.run_report import baselines, reasoning
from thinkrec.evaluate.run_report import inputs as evidence
from thinkrec.evaluate.run_report.added import added
from thinkrec.evaluate.run_report.cards import cards
from thinkrec.evaluate.run_report.cluster_profiles import portraits
from thinkrec.evaluate.run_report.cost import costs
from thinkrec.evaluate.run_report.curves import curves
from thinkrec.evaluate.run_report.examples import examples
from thinkrec.evaluate.run_report.named_rules import rules_named
from thinkrec.evaluate.run_report.schema import (
    REPORT_FILE,
    REPORT_VERSION,
    Explanations,
    Planted,
    Portrait,
    PriorFacts,
    Report,
    StageFacts,
    Views,
)
from thinkrec.evaluate.run_report.scored_rows import TRUE, judged_rows
from thinkrec.evaluate.run_report.usermap import user_map
from thinkrec.events import Judged, Reported
from thinkrec.job import Job
from thinkrec.store.address import write_json
from thinkrec.store.artefacts import Artefact, installed_versions

DIRECT = "direct"
VARIANTS = {
    "fusion": "each user's own mixture of experts",
    "experts": "each user's nearest expert alone",
    "global": "one adapter for all users",
    DIRECT: "the mixture asked for its verdict at once, without the reasoning it was taught to do first",
}
ADDED = {MODEL: "what the language model says by itself; it was trained on what the prior misses"} | {
    with_prior(name): f"the counted prior, and what the language model adds to it: {said}" for name, said in VARIANTS.items()
}
RIVALS = (PRIOR, "item_rate", "user_item_rate", "logistic", *ENCODERS)  # baselines that the best scores are set against
DRAWN = (PRIOR, "user_item_rate", "logistic")  # beside them over history and popularity


def run(job: Job) -> None:
    """Judge the score artefact; writes report.json, metrics.csv, report.html and cards/<adapter>.md.

    Figures: the headline metrics of every scorer.
    """
    table = judged_rows(job.inputs, job.config.prompt, list(VARIANTS))
    names = _ordered(table.columns)
    best = names[0]
    measured = measure(table, names, job.config.evaluate.num_bootstrap, job.config.run.seed)
    job.report(Judged(table.height, tuple(names)))
    rows: list[MetricRow] = [{**row, "kind": _kind(row["name"]), "meaning": _meaning(row["name"])} for row in metric_rows(measured)]
    rivals = [name for name in names[1:] if _kind(name) == "model" or name in RIVALS]
    report: Report = {
        "report_version": REPORT_VERSION,
        "run": {"dir": job.config.run.dir, "seed": job.config.run.seed, "key": job.key},
        "num_rows": table.height,
        "num_users": table["user_id"].n_unique(),
        "like_rate": float(table["label"].to_numpy().mean()),
        "best": best,
        "metrics": rows,
        "differences": difference_rows(measured, [(best, rival) for rival in rivals]),
        "prior": _prior(job.inputs),
        "planted": _planted(table, rows, best),
        **_parts(job, table, names),
        **_stages(job.inputs),
        "cost": costs(job.inputs),
        "explanations": _explanations(job, measured, names),
        "settings": job.config.model_dump(mode="json"),
        "versions": installed_versions(),
    }
    _write(job.draft.local(), report)
    job.draft.figures |= {row["name"]: {metric: row["metrics"][metric]["value"] for metric in HEADLINE_METRICS} for row in rows}
    job.draft.figures |= {"num_rows": table.height, "num_users": report["num_users"]}
    job.report(Reported(f"{job.draft.shared()}/report.html"))


def _ordered(columns: Collection[str]) -> list[str]:
    """The scorers in the order of the report: what is served, and with a prior what it is made of; then other variants and baselines."""
    served, *others = [name for name in (*map(with_prior, VARIANTS), *VARIANTS) if name in columns]
    names = [served, PRIOR, MODEL, *others, *baselines.MEANING] if MODEL in columns else [served, *others, *baselines.MEANING]
    return list(dict.fromkeys(name for name in names if name in columns))


def _prior(inputs: Mapping[str, Artefact]) -> PriorFacts | None:
    if "prior" not in inputs:
        return None
    return {"model_weight": read_model_weight(inputs["score"].path()), "num_valid_rows": inputs["score"].figures.get("num_valid_rows", 0)}


def _parts(job: Job, table: pl.DataFrame, names: list[str]) -> Views:
    """The test rows seen from several sides: what train has seen, routes, clusters, calibration."""
    seed, num_bootstrap = job.config.run.seed, job.config.evaluate.num_bootstrap
    variants = [name for name in names if _kind(name) == "model"]
    folder = evidence.clusters(job.inputs)
    clustered = None if folder is None else table.with_columns(cluster=read_clusters(folder, table["user_id"].to_list()))
    seen = auc_by(table, ["user_seen", "item_seen"], names, num_bootstrap, seed)
    parted = [name for name in names if name in variants or name == PRIOR]
    clusters = [] if clustered is None else auc_by(clustered, ["cluster"], parted, num_bootstrap, seed)
    routes = auc_by(table.rename({f"{variants[0]}:route": "route"}), ["route"], parted, num_bootstrap, seed)
    return {
        "cells": [{"user_seen": user, "item_seen": item, **rows} for (user, item), rows in seen],
        "curves": curves(table, [name for name in (variants[0], *DRAWN) if name in names], num_bootstrap, seed),
        "added": added(table, variants[0], num_bootstrap, seed) if MODEL in names else [],
        "routes": [{"route": route, **rows, "share": rows["num_rows"] / table.height} for (route,), rows in routes],
        "clusters": [{"cluster": cluster, **rows} for (cluster,), rows in clusters],
        "portraits": [] if folder is None else _portraits(job, folder),
        "map": None if folder is None else user_map(job.inputs["cluster"], seed),
        "calibration": {name: calibration(table.select("label", p_like=f"{name}:p_like")) for name in variants if name != MODEL},
    }


def _portraits(job: Job, clusters: Path) -> list[Portrait]:
    words = evidence.keywords(job.inputs)
    if words is None:
        words = pl.DataFrame(schema={"item_id": pl.String, "keywords": pl.List(pl.String)})
    buckets, ingest = range(read_assignment_facts(clusters).num_buckets), job.inputs["ingest"].path()
    return portraits(((read_assignment(clusters, bucket, ["user_id", "cluster"]), _liked(ingest, bucket)) for bucket in buckets), words)


def _liked(ingest: Path, bucket: int) -> pl.DataFrame:
    """(user_id, item_id) of the liked train rows of a bucket."""
    rows = [pl.scan_parquet(file, hive_partitioning=False) for file in bucket_files(ingest, [bucket])]
    liked = (part.filter((pl.col("split") == "train") & (pl.col("label") == 1)).select("user_id", "item_id") for part in rows)
    return pl.concat([pl.LazyFrame(schema={"user_id": pl.String, "item_id": pl.String}), *liked]).collect()


def _stages(inputs: Mapping[str, Artefact]) -> StageFacts:
    return {
        "figures": evidence.figures(inputs),
        "fingerprint": evidence.fingerprint(inputs),
        "audit": evidence.audit(inputs),
        "training": evidence.training(inputs),
        "timeline": evidence.timeline(inputs),
        "traces": evidence.traces(inputs),
    }


def _explanations(job: Job, measured: dict[str, Resampled], names: Sequence[str]) -> Explanations | None:
    explained, settings = evidence.explanations(job.inputs), job.config.evaluate
    if explained is None or explained.is_empty():
        return None
    rescored, keywords = evidence.counterfactuals(job.inputs), evidence.keywords(job.inputs)
    found = reasoning.reasoning(explained, rescored, keywords, evidence.references(job.inputs), settings, job.config.run.seed)
    direct = next((name for name in names if name in (DIRECT, with_prior(DIRECT))), None)
    think = reasoning.think(measured, names[0], direct, job.config.prompt.answer)
    planted = evidence.rules(job.inputs)
    rules = None if planted is None else rules_named(explained, planted)
    return {**found, "think": think, "rules": rules, "rows": examples(explained.drop("facts"))}


def _planted(table: pl.DataFrame, rows: list[MetricRow], best: str) -> Planted | None:
    """In the planted world the best possible AUC is known: the share of the way from chance to it that each scorer has gone."""
    if "p_true" not in table.columns:
        return None
    best_areas = {name: _area(table, name) for name in TRUE}
    bayes = best_areas["p_true"]
    if not bayes > 0.5:  # one class only, or a world without anything to know
        return None
    areas = {row["name"]: row["metrics"]["auc"]["value"] for row in rows}
    shares = {name: None if area is None else (area - 0.5) / (bayes - 0.5) for name, area in areas.items()}
    prior, served = areas.get(PRIOR), areas[best]
    beyond = None if prior is None or served is None or prior >= bayes else (served - prior) / (bayes - prior)
    return {"bayes_auc": bayes, "linear_auc": best_areas["p_linear"], "recovered_share": shares, "share_beyond_prior": beyond}


def _area(table: pl.DataFrame, name: str) -> float:
    return pooled_auc(table.select("user_id", "label", score=name)).at(np.ones(table["user_id"].n_unique()))


def _kind(name: str) -> str:
    return "model" if name in VARIANTS or name in ADDED else "baseline"


def _meaning(name: str) -> str:
    return (VARIANTS | ADDED | baselines.MEANING)[name]


def _write(folder: Path, report: Report) -> None:
    write_json(str(folder / REPORT_FILE), report)
    write_metrics(report["metrics"], folder / "metrics.csv")
    (folder / "report.html").write_text(page(report), encoding="utf-8")
    (folder / "cards").mkdir()
    for name, card in cards(report).items():
        (folder / "cards" / f"{name}.md").write_text(card, encoding="utf-8")
