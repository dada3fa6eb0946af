"""Trials side by side: each with its intervals, and its paired difference to a reference wherever both judged the same test rows.

The same rows means: the same row numbers, users, items and labels, all of them. Trials on other rows (another data set, another window)
are shown with their own intervals, and no difference is claimed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from thinkrec.artefacts.scores import read_scores, scored_variants, scores_folder
from thinkrec.config.run import Config
from thinkrec.config.toml import flat
from thinkrec.errors import DataError
from thinkrec.evaluate.comparison_schema import Comparison, EncoderAuc, Headline, Meteor, TrialFacts
from thinkrec.evaluate.metrics.intervals import Resampled
from thinkrec.evaluate.metrics.table import ENCODERS, HEADLINE_METRICS, DifferenceRow, difference_rows, measure, metric_rows, write_metrics
from thinkrec.evaluate.report.comparison import comparison_page
from thinkrec.evaluate.run_report.cost import costs
from thinkrec.evaluate.run_report.schema import Report, read_report
from thinkrec.evaluate.run_report.scored_rows import JUDGED_ROW
from thinkrec.store.address import write_json
from thinkrec.store.artefacts import Artefact, installed_versions

COMPARISON_FILES = ("comparison.html", "comparison.json", "comparison.csv")
REFERENCES = ("teacher", "planted")  # of the explanations' METEOR, the better one first


@dataclass(frozen=True)
class Entry:
    """A finished trial: what it is held against, which of its scores, and its artefacts by stage. `base` is the name without a seed."""

    name: str
    base: str
    reference: str
    variant: str
    config: Config
    artefacts: Mapping[str, Artefact]


def write_comparison(folder: Path, entries: Sequence[Entry], settings: Headline, failed: Mapping[str, str]) -> None:
    """Write the comparison as comparison.json, .csv and .html."""
    found = compare(entries, settings, failed)
    write_json(str(folder / "comparison.json"), found)
    write_metrics(found["metrics"], folder / "comparison.csv")
    (folder / "comparison.html").write_text(comparison_page(found), encoding="utf-8")


def compare(entries: Sequence[Entry], settings: Headline, failed: Mapping[str, str]) -> Comparison:
    """What comparison.json holds. settings: title, metric (of the headline), reference (base name); failed: trial -> why it is missing.

    Every difference is one of the same users resampled alike. Raises DataError for a trial without usable scores of its variant.
    """
    scored = {entry.name: _scores(entry) for entry in entries}
    measured, group_of = _measure({name: table for name, (_, table) in scored.items()}, entries)
    pairs = [(one.name, one.reference) for one in entries if one.name != one.reference]
    paired = [pair for pair in pairs if group_of[pair[0]] == group_of.get(pair[1])]
    differences = difference_rows(measured, paired)
    changed, references = _changed(entries), {one.reference for one in entries}
    used = Counter(artefact.uri for entry in entries for artefact in entry.artefacts.values())
    first = scored[next((one.reference for one in entries if one.reference in scored), entries[0].name)][1]
    return {
        **settings,
        "num_rows": first.height,
        "num_users": first["user_id"].n_unique(),
        "metrics": [row | {"kind": "model" if row["name"] in references else ""} for row in metric_rows(measured)],
        "differences": differences,
        "unpaired": {name: _why(against, measured) for name, against in pairs if (name, against) not in paired},
        "trials": [_facts(entry, *scored[entry.name], used) for entry in entries],
        "seeds": _over_seeds(entries, measured, differences),
        "changed": changed,
        "varied": _varied(changed, entries),
        "failed": dict(failed),
        "wall_s": _wall_s({one.uri: one for entry in entries for one in entry.artefacts.values()}.values()),
        "num_bootstrap": entries[0].config.evaluate.num_bootstrap,
        "versions": installed_versions(),
    }


def _scores(entry: Entry) -> tuple[str, pl.DataFrame]:
    """The variant compared and its rows (JUDGED_ROW, score) by `row`; "served" is the mixture of experts where there is one."""
    folder = entry.artefacts["score"].path()
    there = scored_variants(folder)
    served = "fusion" if "fusion" in there else "global"
    variant = served if entry.variant == "served" else entry.variant
    where = str(scores_folder(folder, variant))
    if variant not in there:
        what = f"trial {entry.name!r} has no scores of variant {variant!r}; there are {', '.join(there)}"
        raise DataError(what, where, "name one of these")
    table = read_scores(folder, variant, [*JUDGED_ROW, "score"]).sort("row")
    if not table["score"].is_finite().all():
        raise DataError(f"a score of trial {entry.name!r} is not a finite number", where, "look at the log of its training stages")
    return variant, table


def _measure(tables: Mapping[str, pl.DataFrame], entries: Sequence[Entry]) -> tuple[dict[str, Resampled], dict[str, int]]:
    """Every metric of every trial, and the number of the group of trials that judged the same rows."""
    groups: list[pl.DataFrame] = []
    group_of: dict[str, int] = {}
    for name, table in tables.items():
        same = [number for number, group in enumerate(groups) if group.select(JUDGED_ROW).equals(table.select(JUDGED_ROW))]
        group_of[name] = same[0] if same else len(groups)
        groups += [] if same else [table.select(JUDGED_ROW)]
        groups[group_of[name]] = groups[group_of[name]].with_columns(table["score"].alias(f"score of {name}"))
    config = entries[0].config
    measured: dict[str, Resampled] = {}
    for group in groups:
        measured |= measure(group, group.columns[len(JUDGED_ROW) :], config.evaluate.num_bootstrap, config.run.seed)
    return {name: measured[f"score of {name}"] for name in tables}, group_of


def _why(against: str, measured: Mapping[str, Resampled]) -> str:
    return "other test rows" if against in measured else f"{against} failed"


def _facts(entry: Entry, variant: str, table: pl.DataFrame, used: Mapping[str, int]) -> TrialFacts:
    """What else is known of a trial: experts and clusters, traces, its encoder alone, METEOR of its explanations, cost."""
    artefacts, report = entry.artefacts, read_report(entry.artefacts["evaluate"].path())
    clusters = artefacts["cluster"].figures
    num_experts = clusters["num_clusters"] if clusters["num_clusters"] > 1 else 0
    num_traces = artefacts["global"].figures.get("num_traces", 0)
    areas = {row["name"]: row["metrics"]["auc"]["value"] for row in report["metrics"]}
    own = [artefact for artefact in artefacts.values() if used[artefact.uri] == 1]
    return {
        "name": entry.name,
        "variant": variant,
        "against": entry.reference,
        "seed": entry.config.run.seed,
        "num_rows": table.height,
        "num_users": table["user_id"].n_unique(),
        "num_experts": num_experts,
        "sizes": clusters["sizes"],
        "cohens_d_max": clusters["cohens_d_max"] if num_experts else None,
        "trace_share": entry.config.train.trace_share if num_traces else 0.0,
        "num_traces": num_traces,
        "encoder": next((EncoderAuc(name=name, auc=areas[name]) for name in ENCODERS if name in areas), None),
        "meteor": _meteor(report),
        "cost": {**costs(artefacts)["total"], "own_wall_s": _wall_s(own)},
    }


def _wall_s(artefacts: Iterable[Artefact]) -> float:
    return float(sum(artefact.manifest.get("wall_s") or 0.0 for artefact in artefacts))


def _meteor(report: Report) -> Meteor | None:
    """METEOR of the explanations against the best references there are: value, interval, shuffled, and which references."""
    overlap = report["explanations"]["overlap"] if report["explanations"] else {}
    found = next(((kind, told) for kind in REFERENCES if (told := overlap.get(kind))), None)
    if found is None:
        return None
    references, told = found
    return {**told["metrics"]["meteor"], "references": references, "num_pairs": told["num_pairs"]}


def _over_seeds(entries: Sequence[Entry], measured: Mapping[str, Resampled], differences: Sequence[DifferenceRow]) -> list[dict[str, Any]]:
    """Mean and standard deviation over the seeds of each trial, of the metrics and of the differences; empty with one seed."""
    seeds = Counter(entry.base for entry in entries)
    found = []
    for base in (base for base, num_seeds in seeds.items() if num_seeds > 1):
        names = [entry.name for entry in entries if entry.base == base]
        row: dict[str, Any] = {"name": base, "num_seeds": len(names)}
        for metric in HEADLINE_METRICS:
            steps = [step["metrics"][metric]["value"] for step in differences if step["name"] in names]
            row[metric] = {"value": _spread([measured[name].value(metric) for name in names]), "difference": _spread(steps)}
        found.append(row)
    return found


def _spread(values: Sequence[float | None]) -> dict[str, float | None]:
    known = [value for value in values if value is not None and np.isfinite(value)]
    return {"mean": float(np.mean(known)) if known else None, "sd": float(np.std(known, ddof=1)) if len(known) > 1 else None}


def _changed(entries: Sequence[Entry]) -> dict[str, dict[str, object]]:
    """Dotted key -> trial -> value, of every setting that is not the same in all trials."""
    leaves = {entry.name: flat(entry.config.model_dump(mode="json")) for entry in entries}
    first = next(iter(leaves.values()))
    found = {key: {name: mine[key] for name, mine in leaves.items()} for key in first}
    return {key: values for key, values in found.items() if any(value != first[key] for value in values.values())}


def _varied(changed: Mapping[str, Mapping[str, object]], entries: Sequence[Entry]) -> str | None:
    """What a curve goes over: the one setting beside the seed in which trials differ, if it is a number and they compare one variant."""
    keys = [key for key in changed if key != "run.seed"]
    if len(keys) != 1 or len({entry.variant for entry in entries}) > 1:
        return None
    values = changed[keys[0]].values()
    return keys[0] if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values) else None
