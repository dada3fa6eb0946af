"""Model cards of the adapters, as the Hugging Face Hub reads them: what each was trained on and for whom, and how it did in this report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from thinkrec.evaluate.report.words import COLUMNS, count, meaning, metric_name, number, percent, span, title

Report = Mapping[str, Any]
HUB_NAMES = {"auc": "roc_auc"}  # where the Hub has a name of its own for a metric

USE = """```python
from peft import PeftModel
from transformers import AutoModelForCausalLM

base = AutoModelForCausalLM.from_pretrained("BASE")  # {base}
model = PeftModel.from_pretrained(base, "{name}")
```

Prompts must be written as in training (template of thinkrec, settings below); who is served by which adapter is the router's choice."""


def cards(report: Report) -> dict[str, str]:
    """Name of an adapter ("global", "expert-0", ...) -> its README.md. Every figure in it stands in report.json, too."""
    experts = {f"expert-{row['expert']}": _expert(report, row) for row in report["timeline"]}
    return ({"global": _global(report)} if "global" in report["figures"] else {}) | experts


def _global(report: Report) -> str:
    found: Report = next((row["metrics"] for row in report["metrics"] if row["name"] == "global"), {})
    metrics = {metric: found[metric] for metric in COLUMNS if metric in found}
    facts = report["figures"]["global"]
    about = f"The adapter for all users; it serves those whom no expert fits. Trained on {_rows(facts)}."
    return _card(report, "global", about, f"all {count(report['num_rows'])} test rows", metrics)


def _expert(report: Report, facts: Report) -> str:
    number_of = int(facts["expert"])
    portrait = next((row for row in report["portraits"] if row["cluster"] == number_of), None)
    judged = next((row for row in report["clusters"] if row["cluster"] == number_of), None)
    likes = ", ".join(word["keyword"] for word in portrait["keywords"]) if portrait else ""
    about = f"The expert of cluster {number_of}, started from the global adapter and trained on {_rows(facts)}."
    if portrait:
        about += f" The cluster has {count(portrait['num_users'])} users" + (
            f", who like more often than others: {likes}." if likes else "."
        )
    metrics = {"auc": judged["auc"]["experts"]} if judged and "experts" in judged["auc"] else {}
    rows = f"the {count(judged['num_rows'])} test rows of this cluster's users" if judged else "no test row"
    return _card(report, f"expert-{number_of}", about, rows, metrics)


def _card(report: Report, name: str, about: str, rows: str, metrics: Mapping[str, Report]) -> str:
    """Front matter, then prose."""
    settings = report["settings"]
    base = Path(settings["base"]["path"]).name if settings["base"]["source"] == "folder" else "nano"
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
        model_name=f"thinkrec-{name}",
        base_model=base,
        library_name="peft",
        tags=["recommendation", "lora", "thinkrec"],
        datasets=[data],
        metrics=sorted(HUB_NAMES.get(metric, metric) for metric in metrics),
        license=settings["evaluate"]["license"] or None,
        eval_results=results,
    )
    parts = [
        f"---\n{head.to_yaml()}\n---",
        f"# thinkrec {name}",
        "A LoRA adapter that answers whether a user would like an item, and says why (ThinkRec, arXiv 2505.15091).",
        about,
        f"## How good it is\n\nOn {rows}, with 95 % intervals over resampled users. The whole run: {title(report)}.",
        _table(metrics),
        f"## Data\n\n{_data(report)}",
        f"## Use\n\n{USE.format(base=base, name=name)}",
        f"## Settings\n\n{_settings(settings)}",
        "## Limits\n\nJudged offline on logged ratings of this one data set; nothing is known about other catalogues, languages or users. "
        "The reasoning is generated text: it may name likes that the history does not hold.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(metrics: Mapping[str, Report]) -> str:
    if not metrics:
        return "No figure: nobody of this adapter's users is in the test rows."
    rows = [
        f"| {metric_name(metric)} | {number(found['value'])} | {span(found)} | {count(found['num_users'])} | {meaning(metric)} |"
        for metric, found in metrics.items()
    ]
    return "\n".join(["| metric | value | interval | users | meaning |", "|---|---|---|---|---|", *rows])


def _data(report: Report) -> str:
    facts, traces = report["fingerprint"] or {}, report["traces"]
    lines = []
    for name, part in facts.get("splits", {}).items():
        lines.append(f"- {name}: {count(part['num_rows'])} rows of {count(part['num_users'])} users, {percent(part['like_rate'])} likes")
    if "sha256" in facts:
        lines.append(f"- content digest: `{facts['sha256']}`")
    if traces:
        asked = f"{count(traces['num_traces'])} reasoning traces, {percent(traces['hinted_share'])} of them written with the answer known"
        lines.append(f"- {asked}; teacher: {report['settings']['traces']['teacher']}")
    return "\n".join(lines) or "Nothing was handed to this card."


def _rows(facts: Report) -> str:
    return f"{count(facts['num_rows'])} train rows and {count(facts['num_traces'])} reasoning traces in {count(facts['num_steps'])} steps"


def _settings(settings: Report) -> str:
    shown = {"adapter": settings["adapter"], "prompt": settings["prompt"], "seed": settings["run"]["seed"]}
    lines = [
        f"- {name}: {', '.join(f'{k} {v}' for k, v in found.items()) if isinstance(found, dict) else found}"
        for name, found in shown.items()
    ]
    return "\n".join(lines)
