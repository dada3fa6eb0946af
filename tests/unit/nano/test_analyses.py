from __future__ import annotations

import pytest

from thinkrec.config.model import NanoSection, PromptSection
from thinkrec.nano.analyses import write_lesson
from thinkrec.nano.model import make_tokenizer
from thinkrec.prompt.claims import Facts, facts_of
from thinkrec.prompt.template import ItemText, Template, fixed_phrases

FACTS = Facts(
    history=((("noir", "heist"), True), (("noir",), False), (("sci-fi", "noir"), True), ((), True)),
    keywords=("noir", "heist", "sci-fi", "pirates"),
    shown='"A" (noir, heist): liked "B" (noir): disliked "C" (sci-fi, noir): liked "D": liked "E" (noir, heist, sci-fi, pirates)',
)
LESSON = "liked with noir 2 of 3, heist 1 of 1, sci-fi 1 of 1, pirates 0 of 0, overall 3 of 4."


def test_the_lesson_says_what_the_prompt_shows():
    assert write_lesson(FACTS) == LESSON
    assert write_lesson(Facts(FACTS.history, (), "")) == "liked overall 3 of 4."


@pytest.fixture(scope="module")
def items():
    return [ItemText("Alba", ("noir",)), ItemText("Borro", ("noir", "heist")), ItemText("Cinta", ("heist", "noir"))]


def test_facts_end_where_the_prompt_begins(items):
    """What was cut from the prompt for want of room is no fact, and neither are keywords that the history does not show."""
    texts = [f'"{item.title}" ({", ".join(item.keywords)})' for item in items]
    tokenizer = make_tokenizer(texts, fixed_phrases(PromptSection()), NanoSection(vocab_size=400))
    history = [(0, 1), (0, 0), (1, 1)]
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
