"""How good the model's own explanations are, with the controls that tell form from substance.

* Claims (prompt/claims.py): numbers, names and tastes are looked up in the prompt. `shuffled` is the same check of each text against the
  prompt of another row: what it reaches there is reached by form alone.
* Verdicts: `consistent_share` is how often the verdict that is said is the score's. With prompt.answer = "first" and a prior, the score
  gives the verdict and the model goes on from it; without one and with score = "yes_no" both come from the same two logits, so they can
  differ only where the model says another word. `supported_share` can always fail: how often the tastes stated in the reasoning lean to the
  side of the score's verdict.
* Counterfactuals: how far the score moves for interactions the text cites against those it does not, paired within a row.
* Think: AUC with the verdict asked first, after the reasoning, and, of a model that thinks first, with no reasoning at all.
* Overlap (text.py) with references, where the run has any: `teacher`, what a teacher says about the same row, as in the paper
  (docs/method.md 11), which may argue differently and still be right; `planted`, the rule that decided a planted row, in words.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from thinkrec.config.run import EvaluateSection
from thinkrec.evaluate.metrics.intervals import Resampled, resample
from thinkrec.evaluate.metrics.ranking import UserMean
from thinkrec.evaluate.metrics.table import difference_cell
from thinkrec.evaluate.metrics.text import Overlap, text_metrics, tokens
from thinkrec.evaluate.run_report.schema import Grounding, Reasoning, Response, Think, Verdicts
from thinkrec.prompt.claims import LEAK, Claims, Facts, check_claims
from thinkrec.text.phrases import normal

OVERLAP_LENGTH = 4  # words of the runs that two texts may share


def reasoning(
    explained: pl.DataFrame,
    rescored: pl.DataFrame | None,
    keywords: pl.DataFrame | None,
    references: Mapping[str, pl.DataFrame],
    settings: EvaluateSection,
    seed: int,
) -> Reasoning:
    """Figures of explained rows.

    `explained` and `rescored` as in EXPLANATIONS and COUNTERFACTUALS (artefacts/scores.py), `references` as {kind: (row, reference)}.
    """
    texts, facts = explained["text"].to_list(), [Facts(**json.loads(line)) for line in explained["facts"]]
    vocabulary = frozenset() if keywords is None else frozenset(map(normal, keywords["keywords"].explode().drop_nulls().unique()))
    claims = [check_claims(text, shown, vocabulary) for text, shown in zip(texts, facts, strict=True)]
    others = [check_claims(text, shown, vocabulary) for text, shown in zip(texts, [*facts[1:], *facts[:1]], strict=True)]
    return {
        "num_rows": explained.height,
        **verdicts(explained, claims),
        "truncated_share": float((explained["finish_reason"] == "length").to_numpy().mean()),
        "leak_share": float(np.mean([LEAK.search(text) is not None for text in texts])),
        "mean_words": float(np.mean([len(tokens(text)) for text in texts])),
        "claims": {**grounding(claims), "shuffled": grounding(others) if len(texts) > 1 else None},
        "diversity": diversity(texts),
        "counterfactual": {} if rescored is None else counterfactual(rescored, settings.num_bootstrap, seed),
        "overlap": {kind: overlap(explained, table, settings, seed) for kind, table in references.items()},
    }


def verdicts(explained: pl.DataFrame, claims: Sequence[Claims]) -> Verdicts:
    """said_share: rows whose text says a verdict; consistent_share: it is the score's; supported_share: of the reasonings that lean to a
    side, those that lean to the score's (None if none leans).
    """
    leans = np.sign([found.lean for found in claims])
    sides = np.where(explained["verdict"] == "Yes", 1, -1)
    return {
        "said_share": float((explained["said"] != "").to_numpy().mean()),
        "consistent_share": float((explained["said"] == explained["verdict"]).to_numpy().mean()),
        "supported_share": float((leans == sides)[leans != 0].mean()) if leans.any() else None,
    }


def grounding(claims: Sequence[Claims]) -> Grounding:
    """Share of right numbers, of names that the prompt shows, and of right tastes, each with its count; None where nothing was said."""
    num_claims, num_named, num_tastes = (sum(getattr(c, name) for c in claims) for name in ("num_claims", "num_named", "num_tastes"))
    num_unknown = sum(len(c.unknown_keywords) + len(c.unknown_titles) for c in claims)
    return {
        "num_claims": num_claims,
        "right_share": _share(sum(c.num_right for c in claims), num_claims),
        "num_named": num_named,
        "grounded_share": _share(num_named - num_unknown, num_named),
        "num_tastes": num_tastes,
        "polarity_share": _share(sum(c.num_tastes_right for c in claims), num_tastes),
    }


def diversity(texts: Sequence[str]) -> dict[str, float | None]:
    """distinct_n: different n-grams over all n-grams (Li et al. 2016); same_text_share: texts that stood before, word for word;
    self_overlap: mean share of a text's runs of OVERLAP_LENGTH words that also stand in another text.
    """
    words = [tokens(text) for text in texts]
    runs = [set(_ngrams(text, OVERLAP_LENGTH)) for text in words]
    num_texts = Counter(run for own in runs for run in own)
    shares = [sum(num_texts[run] > 1 for run in own) / len(own) for own in runs if own]
    found = {f"distinct_{n}": [gram for text in words for gram in _ngrams(text, n)] for n in (1, 2)}
    return {
        **{name: _share(len(set(grams)), len(grams)) for name, grams in found.items()},
        "same_text_share": 1 - len(set(texts)) / len(texts),
        "self_overlap": float(np.mean(shares)) if shares else None,
    }


def counterfactual(rescored: pl.DataFrame, num_bootstrap: int, seed: int) -> dict[str, Response]:
    """{drop, flip: {num_rows, cited, other, difference}}: mean step of the score in logits, and the paired difference over users.

    Only rows count that cite some of their interactions and not all. `toward_share`, of flips alone: how often the score of a cited
    interaction followed the mark that was set.
    """
    step = (pl.col("changed_score") - pl.col("score")).cast(pl.Float64)
    follows = pl.when("liked").then(step < 0).otherwise(step > 0)
    rows = (
        rescored.with_columns(step=step.abs(), follows=follows)
        .group_by("change", "user_id", "row")
        .agg(
            cited=pl.col("step").filter("cited").mean(),
            other=pl.col("step").filter(~pl.col("cited")).mean(),
            toward=pl.col("follows").filter("cited").mean(),
        )
    )
    both = rows.drop_nulls().sort("change", "user_id", "row")
    return {change: _response(both.filter(change=change), change, num_bootstrap, seed) for change in ("drop", "flip")}


def _response(rows: pl.DataFrame, change: str, num_bootstrap: int, seed: int) -> Response:
    if rows.is_empty():
        return {"num_rows": 0, "cited": None, "other": None, "difference": None}
    users = rows.group_by("user_id", maintain_order=True).agg(pl.col("cited", "other").mean())
    ones = np.ones(users.height)
    cited, other = (
        resample({"step": UserMean(users[name].to_numpy(), ones)}, users.height, num_bootstrap, seed) for name in ("cited", "other")
    )
    difference = difference_cell(cited.minus(other)["step"])
    found: Response = {"num_rows": rows.height, "cited": cited.value("step"), "other": other.value("step"), "difference": difference}
    return {**found, "toward_share": float(rows["toward"].to_numpy().mean())} if change == "flip" else found


def think(measured: Mapping[str, Resampled], served: str, direct: str | None, answer: str) -> Think:
    """AUC of the `served` scores by where their verdict stands: `first`, `after` the reasoning, or with `none` where the model was taught
    to reason first, from the `direct` ones; `difference` = after - none, paired on the same test rows. The orders of answer are trained
    apart, so one run has one of them.
    """
    areas = {name: found.estimates()["auc"].value for name, found in measured.items()}
    if answer == "first":
        return {"first": areas[served], "after": None, "none": None, "difference": None}
    difference = difference_cell(measured[served].minus(measured[direct])["auc"]) if direct else None
    return {"first": None, "after": areas[served], "none": areas[direct] if direct else None, "difference": difference}


def overlap(explained: pl.DataFrame, references: pl.DataFrame, settings: EvaluateSection, seed: int) -> Overlap | None:
    """Text metrics of the explained rows that have a reference; None if none has."""
    pairs = explained.select("row", "user_id", "text").join(references, on="row", maintain_order="left", validate="1:1")
    users, texts, told = (pairs[name].to_list() for name in ("user_id", "text", "reference"))
    return text_metrics(users, texts, told, settings, seed) if users else None


def _ngrams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return list(zip(*(words[start:] for start in range(n)), strict=False))


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None
