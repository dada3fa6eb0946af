"""The check of what a text says about its prompt: what is right, what is caught, and what it is blind to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from thinkrec.prompt.claims import LEAK, Claims, Facts, check_claims, cited

TITLES = ("The Long Night", "Heat", "Sea of Sand. Part 2", "")
FACTS = Facts(
    history=((("noir", "heist"), True), (("noir",), False), (("sci-fi", "noir"), True), ((), True)),
    keywords=("noir", "heist", "sci-fi", "pirates"),
    shown='"The Long Night" (noir, heist): liked "Heat" (noir): disliked "Sea of Sand. Part 2" (sci-fi, noir): liked "unknown": liked '
    '"E" (noir, heist, sci-fi, pirates)',
    titles=TITLES,
)
LESSON = "liked with noir 2 of 3, heist 1 of 1, sci-fi 1 of 1, pirates 0 of 0, overall 3 of 4."
OTHER = Facts(((("opera",), False), (("noir",), False)), ("opera",), '"X" (opera): disliked "Y" (noir): disliked "Z" (opera)', ("X", "Y"))


def numbers(claims: Claims) -> tuple[int, int, tuple[str, ...]]:
    return claims.num_claims, claims.num_right, claims.unknown_keywords


def test_every_claim_of_a_lesson_is_right_and_known():
    claims = check_claims(LESSON, FACTS, {"noir", "heist", "romance"})
    assert claims == Claims(5, 5, (), (), num_named=4, num_tastes=3, num_tastes_right=3, lean=3)


@pytest.mark.parametrize(("right", "wrong"), [("2 of 3", "3 of 3"), ("2 of 3", "2 of 4"), ("0 of 0", "0 of 1"), ("overall 3", "overall 2")])
def test_a_corrupted_number_is_caught(right, wrong):
    assert numbers(check_claims(LESSON.replace(right, wrong, 1), FACTS)) == (5, 4, ())


def test_swapped_keywords_are_caught():
    swapped = LESSON.replace("noir", "x").replace("heist", "noir").replace("x", "heist")
    assert check_claims(swapped, FACTS).num_right == 3


def test_a_text_about_another_prompt_is_caught():
    claims = check_claims(LESSON, OTHER)
    assert (claims.num_right, claims.num_tastes_right) == (0, 0)
    assert claims.unknown_keywords == ("heist", "sci fi", "pirates")


def test_keywords_that_the_prompt_does_not_show_are_named():
    assert numbers(check_claims(LESSON.replace("pirates", "romance"), FACTS)) == (5, 4, ("romance",))
    assert numbers(check_claims("the user is fond of Romance and noir", FACTS, {"romance", "noir"})) == (0, 0, ("romance",))


def test_plain_prose_makes_no_claims():
    assert check_claims("they liked 3 of 4 such films, and 2 of 3 later", FACTS).num_claims == 0


def test_titles_in_quotes_must_stand_in_the_prompt():
    claims = check_claims('like "Heat" and "The Matrix", a "feel-good" film', FACTS)
    assert (claims.num_named, claims.unknown_titles) == (2, ("The Matrix",))


@pytest.mark.parametrize(
    ("text", "tastes"),
    [
        ("The user liked The Long Night.", (1, 1, 1)),
        ("The user disliked The Long Night.", (1, 0, -1)),
        ('They loved The Long Night but hated "Heat".', (2, 2, 0)),
        ('They did not like The Long Night, while "Heat" was enjoyed: no, they never liked it', (1, 0, -1)),  # the second says both
        ("They liked Sea of Sand. Part 2.", (1, 1, 1)),  # the stop is the title's own
        ("Heat rose, they liked it.", (0, 0, 0)),  # a word, not a title
        ("The Long Night is long.", (0, 0, 0)),
        ("liked with noir 1 of 3", (1, 0, -1)),
        ("liked with noir 1 of 2, overall 0 of 4", (0, 0, 0)),  # takes no side; overall is about no keyword
    ],
)
def test_polarity_of_titles_and_keywords(text, tastes):
    claims = check_claims(text, FACTS)
    assert (claims.num_tastes, claims.num_tastes_right, claims.lean) == tastes


def test_cited_interactions_are_named_by_title_or_keyword():
    assert cited("because of The Long Night", FACTS) == [True, False, False, False]
    assert cited('heists like "Heat"', FACTS) == [False, True, False, False]
    assert cited("a Sci Fi mood", FACTS) == [False, False, True, False]
    assert cited("a noir mood", replace(FACTS, titles=())) == [True, True, True, False]
    assert cited("", FACTS) == [False] * 4


def test_words_that_leak_the_label():
    assert LEAK.search("The correct answer is Yes")
    assert not LEAK.search("The answer is Yes")
