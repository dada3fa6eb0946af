from __future__ import annotations

import pytest

from thinkrec.config import PromptSection
from thinkrec.generate.lessons import Claims, Facts, check_claims, facts_of, write_lesson
from thinkrec.model.base import load_tokenizer
from thinkrec.model.prompt import ItemText, Template

FACTS = Facts(
    history=((("noir", "heist"), True), (("noir",), False), (("sci-fi", "noir"), True), ((), True)),
    keywords=("noir", "heist", "sci-fi", "pirates"),
    shown='"A" (noir, heist): liked "B" (noir): disliked "C" (sci-fi, noir): liked "D": liked "E" (noir, heist, sci-fi, pirates)',
)
LESSON = "liked with noir 2 of 3, heist 1 of 1, sci-fi 1 of 1, pirates 0 of 0, overall 3 of 4."


def test_the_lesson_says_what_the_prompt_shows():
    assert write_lesson(FACTS) == LESSON
    assert write_lesson(Facts(FACTS.history, (), "")) == "liked overall 3 of 4."


def test_every_claim_of_a_lesson_is_right_and_known():
    assert check_claims(LESSON, FACTS, {"noir", "heist", "romance"}) == Claims(5, 5, ())


@pytest.mark.parametrize(("right", "wrong"), [("2 of 3", "3 of 3"), ("2 of 3", "2 of 4"), ("0 of 0", "0 of 1"), ("overall 3", "overall 2")])
def test_a_corrupted_number_is_caught(right, wrong):
    assert check_claims(LESSON.replace(right, wrong, 1), FACTS) == Claims(5, 4, ())


def test_swapped_keywords_are_caught():
    swapped = LESSON.replace("noir", "x").replace("heist", "noir").replace("x", "heist")
    assert check_claims(swapped, FACTS).num_right == 3


def test_keywords_that_the_prompt_does_not_show_are_named():
    assert check_claims(LESSON.replace("pirates", "romance"), FACTS) == Claims(5, 4, ("romance",))
    assert check_claims("the user is fond of Romance and noir", FACTS, {"romance", "noir"}) == Claims(0, 0, ("romance",))


def test_plain_prose_makes_no_claims():
    assert check_claims("they liked 3 of 4 such films, and 2 of 3 later", FACTS).num_claims == 0


@pytest.fixture(scope="module")
def items():
    return [ItemText("Alba", ("noir",)), ItemText("Borro", ("noir", "heist")), ItemText("Cinta", ("heist", "noir"))]


def test_facts_end_where_the_prompt_begins(parrot, items):
    """What was cut from the prompt for want of room is no fact, and neither are keywords that the history does not show."""
    tokenizer, history = load_tokenizer(parrot), [(0, 1), (0, 0), (1, 1)]
    full = Template(tokenizer, items, PromptSection())
    prompt = full.write(history, 2)
    assert write_lesson(facts_of(full, history, 2, prompt)) == "liked with heist 1 of 1, noir 2 of 3, overall 2 of 3."
    tight = Template(tokenizer, items, PromptSection(max_tokens=len(prompt.ids) - 1))
    facts = facts_of(tight, history, 2, tight.write(history, 2))
    assert write_lesson(facts) == "liked with heist 1 of 1, noir 1 of 2, overall 1 of 2."
    bare = Template(tokenizer, items, PromptSection(keywords_in_history=False))
    facts = facts_of(bare, history, 2, bare.write(history, 2))
    assert write_lesson(facts) == "liked with heist 0 of 0, noir 0 of 0, overall 2 of 3."
    assert facts.shown.count("noir") == 1
