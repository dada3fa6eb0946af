"""Overlap of explanations with reference texts, offline: METEOR, BLEU and ROUGE, each with what the same texts reach when shuffled.

METEOR is NLTK's (alpha .9, beta 3, gamma .5), which looks synonyms up by the Porter stem, in the shipped WordNet table; BLEU is sacrebleu's
over the corpus; ROUGE is rouge-score's F with stems. Words of METEOR and ROUGE are runs of letters and digits, so "film." is "film"; the
published code splits at blanks. Versions and choices stand in every metric's `definition`.

An overlap alone says little: texts that share a form overlap whatever they say. So every metric comes with `shuffled`, its value when each
explanation is held against the reference of another row. Only what exceeds that is about the row.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.metadata import version
from typing import TypedDict

import numpy as np
import polars as pl

from thinkrec.config.run import EvaluateSection
from thinkrec.evaluate.metrics.intervals import resample
from thinkrec.evaluate.metrics.ranking import UserMean
from thinkrec.evaluate.metrics.score_counts import Array
from thinkrec.evaluate.metrics.table import Interval
from thinkrec.text.wordnet.table import WordNet

LEARNED = {"bert_score": "evaluate.bert_score_path", "bleurt": "evaluate.bleurt_path"}
ROUGE = ("rouge1", "rouge2", "rougeL")
Texts = Sequence[str]


class TextMetric(Interval):
    """An overlap; BLEU has no interval, and one pair alone cannot be shuffled."""

    shuffled: float | None
    definition: str


class Overlap(TypedDict):
    """Every metric of some pairs of texts, and why others are left out."""

    num_pairs: int
    metrics: dict[str, TextMetric]
    left_out: dict[str, str]


def text_metrics(users: Texts, candidates: Texts, references: Texts, settings: EvaluateSection, seed: int) -> Overlap:
    """{num_pairs, metrics: {name: {value, low, high, shuffled, definition}}, left_out: {name: why}} of aligned texts, one pair or more.

    Intervals resample users; BLEU is one number of the whole corpus and has none, and one pair alone cannot be shuffled. Raises ModelError
    for a configured local model that cannot be used.
    """
    num_pairs, definitions = len(candidates), _definitions()
    others = [*references[1:], *references[:1]]
    metrics: dict[str, TextMetric] = {}
    for name, values in _scored([*candidates, *candidates], [*references, *others], settings).items():
        shuffled = float(values[num_pairs:].mean()) if num_pairs > 1 else None
        interval = _mean(users, values[:num_pairs], settings.num_bootstrap, seed)
        metrics[name] = {**interval, "shuffled": shuffled, "definition": definitions[name]}
    whole = Interval(value=bleu(candidates, references), low=None, high=None)
    metrics["bleu"] = {**whole, "shuffled": bleu(candidates, others) if num_pairs > 1 else None, "definition": definitions["bleu"]}
    return {
        "num_pairs": num_pairs,
        "metrics": metrics,
        "left_out": {name: f"{key} is empty" for name, key in LEARNED.items() if name not in metrics},
    }


def tokens(text: str) -> list[str]:
    """Lower-case runs of letters and digits."""
    return re.findall(r"[^\W_]+", text.lower())


def meteor(candidates: Texts, references: Texts) -> Array:
    """METEOR of each pair, (n,); 0 where one of the two is empty or no word matches."""
    from nltk.translate.meteor_score import meteor_score

    wordnet = WordNet.load()
    pairs = zip(candidates, references, strict=True)
    return np.array([meteor_score([tokens(reference)], tokens(candidate), wordnet=wordnet) for candidate, reference in pairs])


def rouge(candidates: Texts, references: Texts) -> dict[str, Array]:
    """ROUGE-1, -2 and -L (F) of each pair, (n,) each."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(ROUGE, use_stemmer=True)
    scores = [scorer.score(reference, candidate) for candidate, reference in zip(candidates, references, strict=True)]
    return {name: np.array([score[name].fmeasure for score in scores]) for name in ROUGE}


def bleu(candidates: Texts, references: Texts) -> float:
    """BLEU-4 of the whole corpus as a share, 0 to 1."""
    from sacrebleu.metrics.bleu import BLEU

    return float(BLEU().corpus_score(list(candidates), [list(references)]).score / 100)


def _scored(candidates: Texts, references: Texts, settings: EvaluateSection) -> dict[str, Array]:
    """The metrics that are means over pairs."""
    found = {"meteor": meteor(candidates, references), **rouge(candidates, references)}
    if settings.bert_score_path:
        from thinkrec.evaluate.metrics.learned_text import bert_score

        found["bert_score"] = bert_score(settings.bert_score_path, candidates, references, settings.bert_score_layer)
    if settings.bleurt_path:
        from thinkrec.evaluate.metrics.learned_text import bleurt

        found["bleurt"] = bleurt(settings.bleurt_path, candidates, references)
    return found


def _mean(users: Texts, values: Array, num_bootstrap: int, seed: int) -> Interval:
    """Mean over rows with its interval over users."""
    sums = pl.DataFrame({"user": users, "value": values}).group_by("user", maintain_order=True).agg(pl.col("value").mean(), pl.len())
    statistic = UserMean(sums["value"].to_numpy(), sums["len"].cast(pl.Float64).to_numpy())
    found = resample({"mean": statistic}, sums.height, num_bootstrap, seed).estimates()["mean"]
    return {"value": found.value, "low": found.low, "high": found.high}


def _definitions() -> dict[str, str]:
    nltk, sacrebleu, rouge_score = (f"{name} {version(name)}" for name in ("nltk", "sacrebleu", "rouge-score"))
    words = "lower-case words"
    return {
        "meteor": f"{nltk}, alpha .9, beta 3, gamma .5, WordNet 3.0, {words}",
        "bleu": f"{sacrebleu}, BLEU-4 over the corpus, exponential smoothing, 13a tokens",
        **dict.fromkeys(ROUGE, f"{rouge_score}, F, Porter stems"),
        "bert_score": "F of greedily matched token vectors, no word weights, no rescaling",
        "bleurt": "the regressor's own output",
    }
