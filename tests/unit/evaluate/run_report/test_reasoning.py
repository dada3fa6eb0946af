"""Figures of explanations, each with the control that must fail: shuffled texts, citations at random, forced verdicts."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import polars as pl
import pytest

from thinkrec.config.run import EvaluateSection
from thinkrec.evaluate.metrics.table import measure
from thinkrec.evaluate.run_report import reasoning
from thinkrec.prompt.claims import Claims, Facts

GENRES = ("noir", "heist", "opera", "pirates", "desert", "jazz")
SETTINGS = EvaluateSection(num_bootstrap=200)


def facts_of_row(n: int) -> Facts:
    """Row n speaks of its own genre: liked n of 5."""
    genre = GENRES[n]
    history = tuple(((genre,), place < n) for place in range(5))
    return Facts(history, (genre,), f"({genre}): as marked")


@pytest.fixture
def explained() -> pl.DataFrame:
    rows: list[dict[str, Any]] = [
        {
            "row": n,
            "user_id": f"u{n}",
            "verdict": "Yes" if n > 2 else "No",
            "said": "Yes" if n > 2 else "No",
            "text": f"liked with {genre} {n} of 5.",
            "finish_reason": "stop",
            "facts": json.dumps(asdict(facts_of_row(n))),
        }
        for n, genre in enumerate(GENRES)
    ]
    return pl.DataFrame(rows)


def judge(explained: pl.DataFrame, references: dict[str, pl.DataFrame] | None = None) -> dict[str, Any]:
    keywords = pl.DataFrame({"keywords": [[genre] for genre in GENRES]})
    return reasoning.reasoning(explained, None, keywords, references or {}, SETTINGS, seed=1)


def test_faithful_explanations_pass_and_shuffled_ones_do_not(explained):
    found = judge(explained)
    claims = found["claims"]
    assert (claims["right_share"], claims["grounded_share"], claims["polarity_share"]) == (1, 1, 1)
    assert (claims["shuffled"]["right_share"], claims["shuffled"]["grounded_share"]) == (0, 0)
    assert (claims["num_claims"], claims["num_named"], claims["num_tastes"]) == (6, 6, 6)
    assert judge(explained.with_columns(text=pl.col("text").reverse()))["claims"]["right_share"] == 0


def test_consistency_is_measured(explained):
    assert judge(explained)["consistent_share"] == 1
    said = judge(explained.with_columns(said=pl.Series(["Yes", "No", "", "Yes", "Yes", "Yes"])))
    assert (said["consistent_share"], said["said_share"]) == (pytest.approx(4 / 6), pytest.approx(5 / 6))


def test_support_is_the_side_that_the_reasoning_takes(explained):
    assert judge(explained)["supported_share"] == 1
    swapped = explained.with_columns(verdict=pl.Series(["No", "No", "Yes", "Yes", "Yes", "No"]))
    assert judge(swapped)["supported_share"] == pytest.approx(4 / 6)
    assert judge(explained.with_columns(text=pl.lit("no taste at all")))["supported_share"] is None
    assert reasoning.verdicts(explained, [Claims(0, 0, (), lean=lean) for lean in (0, 0, 0, 0, 2, -1)])["supported_share"] == 0.5


def test_cut_off_leaking_and_unclaiming_texts_are_counted(explained):
    found = judge(explained.with_columns(text=pl.lit("the right answer"), finish_reason=pl.lit("length")))
    assert (found["truncated_share"], found["leak_share"], found["mean_words"]) == (1, 1, 3)
    assert found["claims"]["right_share"] is None


def test_diversity_by_hand():
    found = reasoning.diversity(["a b c d e", "a b c d f", "a b c d e", "g"])
    assert found["distinct_1"] == pytest.approx(7 / 16)
    assert found["distinct_2"] == pytest.approx(5 / 12)
    assert found["same_text_share"] == 0.25
    assert found["self_overlap"] == pytest.approx((1 + 0.5 + 1) / 3)
    assert reasoning.diversity([""]) == {"distinct_1": None, "distinct_2": None, "same_text_share": 0, "self_overlap": None}


def rescored(listens: bool, num_rows: int = 40) -> pl.DataFrame:
    """Four interactions a row, two of them cited; a model that listens to them moves by 1 for cited, by 0.1 for others."""
    rng = np.random.default_rng(5)
    rows = []
    for row in range(num_rows):
        decides = rng.permutation(4) < 2
        named = decides if listens else rng.permutation(4) < 2
        for place in range(4):
            step = (1.0 if decides[place] else 0.1) + rng.normal(0, 0.05)
            for change, size in (("drop", step), ("flip", 2 * step)):
                liked = bool(place % 2)
                end = 0.5 - size if liked else 0.5 + size
                cells = {"row": row, "user_id": f"u{row}", "liked": liked, "cited": bool(named[place]), "change": change}
                rows.append({**cells, "score": 0.5, "changed_score": end})
    return pl.DataFrame(rows)


def test_scores_that_follow_the_citations_are_told_from_those_that_do_not():
    found = reasoning.counterfactual(rescored(listens=True), 200, seed=1)
    assert found["drop"]["cited"] == pytest.approx(1, abs=0.05)
    assert found["flip"]["other"] == pytest.approx(0.2, abs=0.05)
    assert found["drop"]["difference"]["low"] > 0.8
    assert found["flip"]["toward_share"] == 1
    control = reasoning.counterfactual(rescored(listens=False, num_rows=200), 200, seed=1)
    assert control["drop"]["difference"]["low"] < 0 < control["drop"]["difference"]["high"]


def test_rows_that_cite_all_or_nothing_do_not_count():
    table = rescored(listens=True, num_rows=6).with_columns(cited=pl.when(pl.col("row") < 5).then(pl.col("row") > 2).otherwise("cited"))
    assert reasoning.counterfactual(table, 50, seed=1)["drop"]["num_rows"] == 1
    found = reasoning.counterfactual(table.filter(pl.col("row") < 5), 50, seed=1)
    assert found["flip"] == {"num_rows": 0, "cited": None, "other": None, "difference": None}


def test_think_is_the_paired_difference_of_after_and_none():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 400)
    noise = rng.normal(size=400)
    scores = {"fusion": label + noise, "direct": label + 3 * noise}
    table = pl.DataFrame({"user_id": [f"u{n % 40}" for n in range(400)], "label": label, **scores})
    measured = measure(table, ["fusion", "direct"], 100, 0)
    found = reasoning.think(measured, "fusion", "direct", "after")
    assert found["difference"]["value"] == pytest.approx(found["after"] - found["none"])
    assert found["difference"]["low"] > 0
    assert reasoning.think(measured, "fusion", None, "first") == {"first": found["after"], "after": None, "none": None, "difference": None}


def test_references_are_matched_by_row_and_their_absence_is_said(explained):
    references = explained.select("row", reference="text").reverse()
    found = judge(explained, {"teacher": references.head(3), "planted": references.with_columns(row=pl.col("row") + 99)})
    assert found["overlap"]["planted"] is None
    overlap = found["overlap"]["teacher"]
    assert overlap["num_pairs"] == 3
    assert overlap["metrics"]["rougeL"]["value"] == 1
    assert overlap["metrics"]["meteor"]["shuffled"] < overlap["metrics"]["meteor"]["value"]
