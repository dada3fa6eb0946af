"""What the other stages left behind for the report. Every file here is optional: None or empty says that it is not there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl

from thinkrec.artefacts.adapters import LOG_FILE, expert_logs, read_timeline
from thinkrec.artefacts.clusters import ASSIGNMENT_FOLDER
from thinkrec.artefacts.ingest import TRUTH_FILE, Fingerprint, FoundRows, read_audit, read_fingerprint
from thinkrec.artefacts.keywords import KEYWORDS_FILE
from thinkrec.artefacts.scores import COUNTERFACTUALS_FILE, EXPLANATIONS_FILE
from thinkrec.artefacts.tables import read_table, rows_as
from thinkrec.artefacts.traces import REFERENCES_FILE, TRACES_FILE
from thinkrec.data.audit.artefacts import audit_artefacts
from thinkrec.evaluate.run_report.schema import ExpertRun, LossPoint, TracesFacts
from thinkrec.store.artefacts import Artefact

MAX_POINTS = 200
CURVES = ("loss", "rec", "think")


def training(inputs: Mapping[str, Artefact]) -> dict[str, list[LossPoint]]:
    """Loss curves (step, loss, rec, think) by stage and phase ("base pretrain", "global", "expert 0", ...), at most MAX_POINTS each."""
    logs = {name: inputs[name].path(LOG_FILE) for name in ("extractor", "base", "teacher", "global", "projector") if name in inputs}
    if "experts" in inputs:
        logs |= {f"expert {expert}": log for expert, log in expert_logs(inputs["experts"].path()).items()}
    curves = {}
    for name, log in logs.items():
        lines = log_lines(log) if log.is_file() else pl.DataFrame(schema={"phase": pl.String})
        phases = lines["phase"].unique().sort().to_list()
        for phase in phases:
            curves[name if len(phases) == 1 else f"{name} {phase}"] = _thinned(lines.filter(pl.col("phase") == phase))
    return curves


def timeline(inputs: Mapping[str, Artefact]) -> list[ExpertRun]:
    """When each expert was trained, on which group of workers; seconds from the start of the stage."""
    return rows_as(ExpertRun, map(asdict, read_timeline(inputs["experts"].path()))) if "experts" in inputs else []


def traces(inputs: Mapping[str, Artefact]) -> TracesFacts | None:
    """Of the trace table: how many, by attempt, hinted, cut off at the token limit, mean length; what was asked and why answers fell, and
    the same of each teacher."""
    table = _table(inputs, "traces", TRACES_FILE)
    asked = inputs["traces"].figures if "traces" in inputs else {}
    if table is None or (table.is_empty() and not asked.get("num_asked")):
        return None
    return {
        "num_asked": asked.get("num_asked"),
        "num_attempts": asked.get("num_attempts"),
        "claim_rate": asked.get("claim_rate"),
        "num_tokens": asked.get("num_tokens"),
        "refused": asked.get("refused"),
        "teachers": asked.get("teachers"),
        "accepted_share": table.height / asked["num_asked"] if asked.get("num_asked") else None,
        "num_traces": table.height,
        "hinted_share": _mean(table["hinted"]),
        "truncated_share": _mean(table["finish_reason"] == "length"),
        "mean_tokens": _mean(table["num_tokens"]),
        "like_share": _mean(table["verdict"]),
        "by_attempt": table["attempt"].value_counts().sort("attempt").rename({"count": "num_traces"}).to_dicts(),
    }


def keywords(inputs: Mapping[str, Artefact]) -> pl.DataFrame | None:
    """The keyword table (item_id, keywords, source)."""
    return _table(inputs, "keywords", KEYWORDS_FILE)


def clusters(inputs: Mapping[str, Artefact]) -> Path | None:
    """The cluster artefact's folder."""
    there = "cluster" in inputs and inputs["cluster"].path(ASSIGNMENT_FOLDER).is_dir()
    return inputs["cluster"].path() if there else None


def explanations(inputs: Mapping[str, Artefact]) -> pl.DataFrame | None:
    """What the model said about some test rows (EXPLANATIONS)."""
    return _table(inputs, "score", EXPLANATIONS_FILE)


def counterfactuals(inputs: Mapping[str, Artefact]) -> pl.DataFrame | None:
    """How the scores of the explained rows respond to a changed history (COUNTERFACTUALS)."""
    return _table(inputs, "score", COUNTERFACTUALS_FILE)


def references(inputs: Mapping[str, Artefact]) -> dict[str, pl.DataFrame]:
    """Texts (row, reference) that an explanation may be held against, by their kind; see reasoning.py for what each is worth."""
    found = {}
    told = _table(inputs, "references", REFERENCES_FILE)
    if told is not None:
        found["teacher"] = told.select("row", reference="text")
    truth = _table(inputs, "ingest", TRUTH_FILE)
    if truth is not None:
        found["planted"] = truth.select("row", reference="trace")
    return found


def rules(inputs: Mapping[str, Artefact]) -> pl.DataFrame | None:
    """What decided each row of a planted world (row, rule, reason, trace); None elsewhere."""
    truth = _table(inputs, "ingest", TRUTH_FILE)
    return None if truth is None else truth.select("row", "rule", "reason", "trace")


def figures(inputs: Mapping[str, Artefact]) -> dict[str, Mapping[str, Any]]:
    """The headline numbers of every stage."""
    return {name: artefact.figures for name, artefact in inputs.items()}


def audit(inputs: Mapping[str, Artefact]) -> list[FoundRows]:
    """What the leak audit looked for and found: in the log, and in what was fitted on it."""
    return [*read_audit(inputs["ingest"].path()), *rows_as(FoundRows, map(asdict, audit_artefacts(inputs)))]


def fingerprint(inputs: Mapping[str, Artefact]) -> Fingerprint | None:
    """Counts, like rates and time cuts of the data."""
    return read_fingerprint(inputs["ingest"].path()) if "ingest" in inputs else None


def log_lines(log: Path) -> pl.DataFrame:
    """(phase, step, loss, rec, think, peak_bytes) of a training log, sorted by (phase, step).

    A resumed run logs some steps again: the last line counts. A line torn by a kill is left out.
    """
    entries = {}
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        values = [float(entry.get(key, "nan")) for key in CURVES]
        entries[str(entry["phase"]), int(entry["step"])] = [*values, entry.get("peak_bytes")]
    rows = [(*place, *entries[place]) for place in sorted(entries)]
    kinds = {"phase": pl.String, "step": pl.Int64} | dict.fromkeys(CURVES, pl.Float64) | {"peak_bytes": pl.Int64}
    return pl.DataFrame(rows, schema=kinds, orient="row")


def _mean(values: pl.Series) -> float | None:
    return None if values.is_empty() else float(values.cast(pl.Float64).mean())  # type: ignore[arg-type]


def _table(inputs: Mapping[str, Artefact], stage: str, name: str) -> pl.DataFrame | None:
    file = inputs[stage].path(name) if stage in inputs else None
    return read_table(file) if file and file.is_file() else None


def _thinned(lines: pl.DataFrame) -> list[LossPoint]:
    """At most MAX_POINTS points, each the mean of the steps it stands for."""
    per_point = max(1, -(-lines.height // MAX_POINTS))
    means = [pl.col(key).fill_nan(None).mean() for key in CURVES]
    points = lines.group_by(pl.int_range(pl.len()) // per_point, maintain_order=True).agg(pl.col("step").last(), *means)
    return rows_as(LossPoint, points.select("step", *CURVES).iter_rows(named=True))
