"""The section of the report on explanations: how good the texts are, beside controls that tell form from substance, then some of them."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Literal

from thinkrec.evaluate.metrics.text import Overlap
from thinkrec.evaluate.report.format import count, number, percent
from thinkrec.evaluate.report.html import cards, chips, folded, paragraph, table, tiles
from thinkrec.evaluate.report.quality import difference, estimate
from thinkrec.evaluate.run_report.schema import Explained, Explanations, Report, Response, RulesNamed, Stated, Think

Counted = Literal["num_claims", "num_named", "num_tastes"]
Share = Literal["right_share", "grounded_share", "polarity_share"]
LABELS: dict[int | None, str] = {1: "liked it", 0: "did not like it"}
DRAWN = {
    "wrong": ("Sure and wrong", "Where the model was surest and yet wrong, among the rows explained: look here first."),
    "right": ("Sure and right", "Where it was surest and right."),
    "random": ("Drawn at random", "What the others are like."),
}
CLAIMS: dict[Counted, tuple[str, Share]] = {  # what a text may state: its count, and the share that holds
    "num_claims": ("numbers", "right_share"),
    "num_named": ("titles and keywords", "grounded_share"),
    "num_tastes": ("likes and dislikes", "polarity_share"),
}
CHANGES = {"drop": "left out", "flip": "with the other mark"}
OVERLAPS = {"meteor": "METEOR", "rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L", "bleu": "BLEU"}
OVERLAPS |= {"bert_score": "BERTScore", "bleurt": "BLEURT"}
THOUGHT: dict[Literal["first", "after", "none"], str] = {
    "first": "verdict first",
    "after": "after the reasoning",
    "none": "taught to reason, asked at once",
}


def explanations(report: Report) -> str:
    """What the model says about some test rows, with what it was shown: surest wrong ones, surest right ones, random ones."""
    found = report["explanations"]
    if not found:
        return paragraph("No explanations were handed to this report.", "note")
    parts = [
        _verdicts(found),
        _rules(found.get("rules")),
        _claims(found["claims"]),
        _counterfactual(found["counterfactual"]),
        _think(found["think"]),
    ]
    parts += [_overlap(kind, measured) for kind, measured in found["overlap"].items() if measured]
    for drawn, (heading, note) in DRAWN.items():
        rows = [row for row in found["rows"] if row["drawn"] == drawn]
        if rows:
            parts += [f"<h3>{heading}</h3>", paragraph(note, "note"), cards([_explanation(row) for row in rows])]
    return "".join(parts)


def _verdicts(found: Explanations) -> str:
    """The texts as a whole."""
    diversity = found["diversity"]
    facts = [
        ("rows explained", count(found["num_rows"])),
        ("say a verdict", percent(found["said_share"])),
        ("that of the score", percent(found["consistent_share"])),
        ("reasons lean to it", percent(found["supported_share"])),
        ("cut off", percent(found["truncated_share"])),
        ("leak the label", percent(found["leak_share"])),
        ("words, mean", count(found["mean_words"])),
        ("said before, word for word", percent(diversity["same_text_share"])),
        ("runs of words said before", percent(diversity["self_overlap"])),
        ("different words", percent(diversity["distinct_1"])),
        ("different word pairs", percent(diversity["distinct_2"])),
    ]
    return tiles(facts)


def _rules(found: RulesNamed | None) -> str:
    """What the texts say of the rules of a planted world."""
    if not found:
        return ""
    rows = [
        ("", ["name first the rule that decided", percent(found["named_share"]), f"{percent(found['chance_share'])} in random order"]),
        ("", ["and say which way it went", percent(found["right_share"]), ""]),
        ("", ["speak for the score's verdict", percent(found["supported_share"]), ""]),
        ("", ["facets named that the item has", percent(found["item_share"]), f"{percent(found['shuffled_share'])} has another row's"]),
    ]
    note = f"Texts about {count(found['num_rows'])} rows, held against the truth table of the planted world."
    return "".join(["<h3>Is it the reason?</h3>", paragraph(note, "note"), table(["Texts", "share", "by chance"], rows)])


def _claims(found: Stated) -> str:
    """What the texts state, looked up in the prompt of their row and of another."""
    other = found["shuffled"]
    rows = [
        ("", [name, count(found[counted]), percent(found[share]), percent(other[share] if other else None)])
        for counted, (name, share) in CLAIMS.items()
    ]
    note = (
        "Looked up in what the model was shown; beside it what the same texts reach against the prompt of another row, by their form alone."
    )
    head = ["Stated", "how many", "hold", "hold for another row"]
    return "".join(["<h3>Is it true?</h3>", paragraph(note, "note"), table(head, rows)])


def _counterfactual(found: Mapping[str, Response]) -> str:
    """How far the score moves when something in the history changes."""
    rows = []
    for change, told in found.items():
        if told["difference"]:
            toward = percent(told["toward_share"]) if "toward_share" in told else "\u2013"
            name = f"{CHANGES[change]}<small>{count(told['num_rows'])} rows</small>"
            rows.append(("", [name, number(told["cited"]), number(told["other"]), difference(told["difference"]), toward]))
    if not rows:
        return ""
    note = (
        "Mean step of the language model's own score, in logits, when one interaction is changed. If the texts tell what moved it, those "
        "they cite weigh more. Toward: how often a cited one, turned over, moved the score to its new side."
    )
    head = ["Interaction", "cited", "not cited", "difference", "toward"]
    return "".join(["<h3>Does it tell what moved the score?</h3>", paragraph(note, "note"), table(head, rows)])


def _think(found: Think) -> str:
    """AUC by where the verdict stands; nothing where there is only one to tell."""
    rows = [("", [name, number(found[kind])]) for kind, name in THOUGHT.items() if found[kind] is not None]
    if found["difference"]:
        rows.append(("", ["what the reasoning adds", difference(found["difference"])]))
    return "".join(["<h3>Does thinking help?</h3>", table(["Verdict", "AUC"], rows)]) if len(rows) > 1 else ""


def _overlap(kind: str, found: Overlap) -> str:
    rows = []
    for name, metric in found["metrics"].items():
        told = f"{OVERLAPS[name]}<small>{escape(metric['definition'])}</small>"
        rows.append(("", [told, estimate(metric), number(metric["shuffled"])]))
    left_out = [paragraph(f"{OVERLAPS[name]} is left out: {why}", "note") for name, why in found["left_out"].items()]
    heading = f"<h3>Overlap with {count(found['num_pairs'])} {escape(kind)} references</h3>"
    return "".join([heading, table(["Metric", "overlap", "with those of other rows"], rows), *left_out])


def _explanation(row: Explained) -> str:
    truth = LABELS.get(row["label"], "label unknown")
    facts = chips(
        [f"user {row['user_id']}", row["route"], f"says {row['said'] or 'neither'}", f"gives a like {percent(row['p_like'])}", truth]
    )
    prompt = folded("What the model was shown", f"<pre>{escape(row['prompt'])}</pre>")
    return f"<h3>{escape(row['title'])}</h3>{facts}{paragraph(row['text'])}{prompt}"
