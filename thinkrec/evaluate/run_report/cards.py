"""Model cards of the adapters, as the Hugging Face Hub reads them: what each was trained on and for whom, and how it did in this report."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from thinkrec.evaluate.metrics.table import HEADLINE_METRICS, PRIOR, TWO_NUMBER_BASELINE, EstimateCell, with_prior
from thinkrec.evaluate.report.format import count, label, meaning, metric_name, number, percent, plain, span
from thinkrec.evaluate.run_report.schema import ExpertRun, PriorFacts, Report

HUB_NAMES = {"auc": "roc_auc"}  # where the Hub has a name of its own for a metric

CARD_USE = """```python
from peft import PeftModel
from transformers import AutoModelForCausalLM

base = AutoModelForCausalLM.from_pretrained("BASE")  # the folder of {base}
model = PeftModel.from_pretrained(base, "{name}")
```

Prompts must be written as in training, see the settings. Which adapter serves a user is the router's choice."""
CARD_LIMITS = (
    "Judged offline on the logged ratings of this one data set; nothing is known about other catalogues, languages or users. "
    "The reasoning is generated text: it may name likes that the history does not hold."
)


def cards(report: Report) -> dict[str, str]:
    """Name of an adapter ("global", "expert-0", ...) -> its README.md. Every figure in it stands in report.json, too."""
    trained = {int(row["expert"]): row for row in report["timeline"]}
    there = sorted({*trained, *report["figures"].get("experts", {}).get("kept", [])})
    experts = {f"expert-{expert}": _expert(report, expert, trained.get(expert)) for expert in there}
    return ({"global": _global(report)} if "global" in report["figures"] else {}) | experts


def _global(report: Report) -> str:
    facts, found = report["figures"]["global"], {row["name"]: row["metrics"] for row in report["metrics"]}
    about = f"The adapter for all users; it serves those whom no expert fits. Trained on {_trained(facts)}."
    rivals = {label(name): found[name]["auc"] for name in (PRIOR, TWO_NUMBER_BASELINE, "logistic") if name in found}
    own = found.get(_judged(report, "global"))
    metrics = {metric: own[metric] for metric in HEADLINE_METRICS} if own else {}
    return _card(report, "global", about, f"all {count(report['num_rows'])} test rows", metrics, rivals)


def _expert(report: Report, cluster: int, facts: ExpertRun | None) -> str:
    """`facts` of its training; None in a refresh that kept it as it was."""
    portrait = next((row for row in report["portraits"] if row["cluster"] == cluster), None)
    judged = next((row for row in report["clusters"] if row["cluster"] == cluster), None)
    areas, num_rows = (judged["auc"], judged["num_rows"]) if judged else ({}, 0)
    about = f"The expert of cluster {cluster}, {_made(report, cluster, facts)}."
    if portrait:
        words = ", ".join(escape(word["keyword"]) for word in portrait["keywords"])
        liked = f", who like more often than others: {words}" if words else ""
        about += f" The cluster has {count(portrait['num_users'])} users{liked}."
    rows = f"the {count(num_rows)} test rows of this cluster's users"
    names = (_judged(report, "global"), *([PRIOR] if report["prior"] else []))
    own, rivals = areas.get(_judged(report, "experts")), {label(name): areas[name] for name in names if name in areas}
    return _card(report, f"expert-{cluster}", about, rows, {"auc": own} if own else {}, rivals)


def _made(report: Report, cluster: int, facts: ExpertRun | None) -> str:
    """How an expert came to its weights; figures of experts that are `trained_on` and `new` are those of a refresh."""
    if facts is None:
        return "kept as it was before the newest day"
    figures = report["figures"].get("experts", {})
    goes_on = cluster in figures.get("trained_on", []) and cluster not in figures.get("new", [])
    start = "which went on from the weights it had before the newest day and was" if goes_on else "started from the global adapter and"
    return f"{start} trained on {_trained(facts)}"


def _judged(report: Report, variant: str) -> str:
    """The scores by which a variant was judged: with the prior where there is one."""
    return with_prior(variant) if report["prior"] else variant


def _card(report: Report, name: str, about: str, rows: str, metrics: Mapping[str, EstimateCell], rivals: Mapping[str, EstimateCell]) -> str:
    """Front matter, then prose; `metrics` are the adapter's own on `rows`, `rivals` the AUC of others there."""
    settings = report["settings"]
    base = Path(settings["base"]["path"]).name if settings["base"]["source"] == "folder" else "nano"
    parts = [
        f"---\n{_head(settings, name, base, metrics)}\n---",
        f"# thinkrec {name}",
        "A LoRA adapter that answers whether a user would like an item, and says why (ThinkRec, arXiv 2505.15091).",
        about,
        "## How good it is",
        _table(rows, metrics, rivals) if metrics else "No figure: none of its users is in the test rows.",
        *([_beside(report["prior"])] if report["prior"] else []),
        f"## Data\n\n{_data(report)}",
        f"## Use\n\n{CARD_USE.format(base=base, name=name)}",
        f"## Settings\n\n{_settings(settings)}",
        f"## Limits\n\n{CARD_LIMITS}",
    ]
    return "\n\n".join(parts) + "\n"


def _head(settings: Mapping[str, Any], name: str, base: str, metrics: Mapping[str, EstimateCell]) -> str:
    """The front matter as YAML; `metrics` become results that the Hub shows beside the card."""
    data = settings["data"]["source"]
    results = [
        EvalResult(
            task_type="recommendation",
            dataset_type=data,
            dataset_name=data,
            dataset_split="test",
            metric_type=HUB_NAMES.get(metric, metric),
            metric_name=metric_name(metric),
            metric_value=found["value"],
        )
        for metric, found in metrics.items()
        if found["value"] is not None
    ]
    head = ModelCardData(
        base_model=base,
        library_name="peft",
        tags=["recommendation", "lora", "thinkrec"],
        datasets=[data],
        metrics=[result.metric_type for result in results] or None,
        license=settings["evaluate"]["license"] or None,
        model_name=f"thinkrec-{name}",
        eval_results=results or None,
    )
    return head.to_yaml()


def _table(rows: str, metrics: Mapping[str, EstimateCell], rivals: Mapping[str, EstimateCell]) -> str:
    lines = [f"| {metric_name(metric)} | {_estimate(found)} | {meaning(metric)} |" for metric, found in metrics.items()]
    lines += [f"| AUC of: {name} | {_estimate(found)} | on the same rows |" for name, found in rivals.items()]
    head = f"On {rows}, with 95 % intervals over resampled users.\n\n| metric | value | interval | users | meaning |\n|---|---|---|---|---|"
    return "\n".join([head, *lines])


def _beside(prior: PriorFacts) -> str:
    return (
        "These are figures of prior + g * model: the adapter was trained on what a counted prior misses, and its score (Yes minus No) is "
        f"added to the prior's log-odds with the weight g = {number(prior['model_weight'])}."
    )


def _estimate(found: EstimateCell) -> str:
    return f"{number(found['value'])} | {span(found)} | {count(found['num_users'])}"


def _data(report: Report) -> str:
    facts, traces = report["fingerprint"], report["traces"]
    lines = []
    for name, part in (facts or {}).get("splits", {}).items():
        lines.append(f"- {name}: {count(part['num_rows'])} rows of {count(part['num_users'])} users, {percent(part['like_rate'])} likes")
    if facts and "sha256" in facts:
        lines.append(f"- content digest: `{facts['sha256']}`")
    if traces:
        asked = f"{count(traces['num_traces'])} reasoning traces, {percent(traces['hinted_share'])} of them written with the answer known"
        lines.append(f"- {asked}; teachers: {', '.join(t['name'] for t in report['settings']['traces']['teachers'])}")
    return "\n".join(lines) or "Nothing was handed to this card."


def _trained(facts: Mapping[str, float] | ExpertRun) -> str:
    return f"{count(facts['num_rows'])} train rows and {count(facts['num_traces'])} reasoning traces in {count(facts['num_steps'])} steps"


def _settings(settings: Mapping[str, Any]) -> str:
    parts = {"adapter": settings["adapter"], "prompt": settings["prompt"], "run": {"seed": settings["run"]["seed"]}}
    return "\n".join(f"- {part}: {', '.join(f'{name} {_said(value)}' for name, value in found.items())}" for part, found in parts.items())


def _said(value: object) -> str:
    return " ".join(map(plain, value)) if isinstance(value, list) else plain(value)
