from __future__ import annotations

import pytest

from thinkrec.config import TracesSection
from thinkrec.generate import quality
from thinkrec.generate.engine import GenResult
from thinkrec.model.claims import Claims

FINE = Claims(2, 2, ())


@pytest.mark.parametrize(
    ("text", "reasoning", "verdict"),
    [
        ("noir went well. Yes", "noir went well.", 1),
        ("noir  went\nbadly.No.", "noir went badly.", 0),
        ("**No**", "**", 0),
        ("Yes. noir went well", "Yes. noir went well", None),  # a verdict at the start is none
        ("noir, so Now", "noir, so Now", None),
        ("noir, so Not", "noir, so Not", None),
        ("oh Yes and No way", "oh Yes and No way", None),
        ("she said unYes", "she said unYes", None),
        ("", "", None),
    ],
)
def test_the_verdict_is_the_last_word_or_there_is_none(text, reasoning, verdict):
    assert quality.split_verdict(text) == (reasoning, verdict)


@pytest.mark.parametrize(
    ("change", "claims", "reason"),
    [
        ({}, FINE, ""),
        ({"finish_reason": "error", "text": ""}, FINE, quality.ERROR),
        ({"finish_reason": "length"}, FINE, quality.TRUNCATED),
        ({"text": "liked noir a lot"}, FINE, quality.NO_VERDICT),
        ({"text": "liked noir a lot. No"}, FINE, quality.WRONG_VERDICT),
        ({"text": "noir. Yes"}, FINE, quality.TOO_SHORT),
        ({"text": "the right answer is clear. Yes"}, FINE, quality.LEAKED),
        ({}, Claims(2, 2, ("romance",)), quality.UNKNOWN_KEYWORD),
        ({}, Claims(2, 2, (), ("Heat",)), quality.UNKNOWN_TITLE),
        ({}, Claims(2, 0, ()), quality.FALSE_CLAIMS),
        ({}, Claims(2, 1, ()), ""),
        ({}, Claims(0, 0, ()), ""),
    ],
)
def test_every_refusal_has_its_reason(change, claims, reason):
    result = GenResult(**{"id": "r", "text": "liked noir a lot. Yes", "finish_reason": "stop", **change})
    settings = TracesSection(min_words=3, min_right_share=0.5)
    assert quality.refusal(result, 1, claims, settings) == reason


def test_one_text_may_stand_only_so_often():
    assert quality.repeated(["a", "b", "a", "a", "b"], 2) == [False, False, False, True, False]
