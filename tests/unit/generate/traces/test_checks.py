from __future__ import annotations

import pytest

from thinkrec.config.generation import TracesSection
from thinkrec.generate.engines.protocol import GenResult
from thinkrec.generate.traces import checks
from thinkrec.prompt.claims import Claims

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
    assert checks.split_verdict(text) == (reasoning, verdict)


@pytest.mark.parametrize(
    ("change", "claims", "reason"),
    [
        ({}, FINE, ""),
        ({"finish_reason": "error", "text": ""}, FINE, checks.ERROR),
        ({"finish_reason": "length"}, FINE, checks.TRUNCATED),
        ({"text": "liked noir a lot"}, FINE, checks.NO_VERDICT),
        ({"text": "liked noir a lot. No"}, FINE, checks.WRONG_VERDICT),
        ({"text": "noir. Yes"}, FINE, checks.TOO_SHORT),
        ({"text": "the right answer is clear. Yes"}, FINE, checks.LEAKED),
        ({}, Claims(2, 2, ("romance",)), checks.UNKNOWN_KEYWORD),
        ({}, Claims(2, 2, (), ("Heat",)), checks.UNKNOWN_TITLE),
        ({}, Claims(2, 0, ()), checks.FALSE_CLAIMS),
        ({}, Claims(2, 1, ()), ""),
        ({}, Claims(0, 0, ()), ""),
        ({"text": f"liked {'noir ' * 30}. Yes"}, FINE, checks.TOO_LONG),
        ({}, Claims(2, 2, (), num_tastes=4, num_tastes_right=1), checks.FALSE_TASTES),
        ({}, Claims(2, 2, (), num_tastes=4, num_tastes_right=2), ""),
        ({}, Claims(2, 2, (), num_tastes=4, num_tastes_right=4, lean=-3), checks.CONTRARY),
        ({}, Claims(2, 2, (), num_tastes=4, num_tastes_right=4, lean=-2), ""),
        ({}, Claims(2, 2, (), num_tastes=4, num_tastes_right=4, lean=4), ""),
    ],
)
def test_every_refusal_has_its_reason(change, claims, reason):
    result = GenResult(**{"id": "r", "text": "liked noir a lot. Yes", "finish_reason": "stop", **change})
    settings = TracesSection(min_words=3, max_words=20, min_right_share=0.5, min_taste_share=0.5, max_contrary=2)
    assert checks.refusal(result, 1, claims, settings) == reason


def test_a_verdict_against_all_that_was_said_passes_unless_the_run_minds():
    against = Claims(2, 2, (), num_tastes=4, num_tastes_right=4, lean=-4)
    result = GenResult("r", "they never liked noir or heist. Yes")
    assert checks.refusal(result, 1, against, TracesSection()) == ""
    assert checks.refusal(result, 1, against, TracesSection(max_contrary=0)) == checks.CONTRARY
    liked = GenResult("r", "they always liked noir. No")
    assert checks.refusal(liked, 0, Claims(2, 2, (), lean=4), TracesSection(max_contrary=0)) == checks.CONTRARY


def test_one_text_may_stand_only_so_often():
    assert checks.repeated(["a", "b", "a", "a", "b"], 2, 0.9) == [False, False, False, True, False]


LONG = "the user liked noir and heist films of the forties and disliked every musical that came after them"


def test_nearly_the_same_is_the_same():
    near, far = LONG.replace("forties", "fifties"), LONG.replace("noir and heist films of the forties", "space operas")
    assert checks.repeated([LONG, near, far], 1, 0.6) == [False, True, False]  # 13 of 19 trigrams are shared
    assert checks.repeated([LONG, near, far], 1, 0.9) == [False, False, False]
    assert checks.repeated([LONG, near, LONG.upper()], 1, 0.9) == [False, False, True]


def test_a_teacher_with_one_text_is_found_among_many():
    texts = [f"row {n} is about {n * 7} and {n * 13} other things" if n % 3 else LONG for n in range(300)]
    marks = checks.repeated(texts, 3, 0.9)
    assert sum(marks) == 97
    assert all(texts[at] == LONG for at, mark in enumerate(marks) if mark)
