from __future__ import annotations

import pytest

from thinkrec.config.generation import KeywordsSection
from thinkrec.generate.keywords import grounding
from thinkrec.generate.keywords.extractor import judge
from thinkrec.generate.keywords.stage import Reading, read
from thinkrec.text.phrases import named, occurs
from thinkrec.text.wordnet.table import WordNet

TEXT = "A Sci-Fi heist among NOIR alleys.  Later come parties and an art thief."


@pytest.fixture(scope="module")
def wordnet() -> WordNet:
    return WordNet.load()


@pytest.mark.parametrize(
    ("phrase", "found"),
    [
        ("noir", True),
        ("sci fi", True),
        ("SCI-FI", True),
        ("art thief", True),
        ("art", True),
        ("part", False),
        ("heist noir", False),
        ("", False),
    ],
)
def test_a_phrase_occurs_as_whole_words_side_by_side(phrase, found):
    assert occurs(phrase, TEXT) is found


def test_named_finds_phrases_of_the_vocabulary_only():
    assert list(named(TEXT, {"sci fi", "art", "romance"})) == ["sci fi", "art"]


@pytest.mark.parametrize(
    ("answer", "complete", "keywords"),
    [
        (" noir, heist", True, ["noir", "heist"]),
        (' "Noir" ,heist., NOIR,, the', True, ["noir", "heist"]),
        (" heist, noir, art thi", False, ["heist", "noir"]),  # cut short: the last one may be half a word
        (" noir\nText: another item", True, ["noir"]),
        ("", True, []),
        ("\n", True, []),
        (" sci-fi, heist, Sci Fi, --, THE", True, ["sci-fi", "heist"]),  # one thing in two spellings, and nothing at all
    ],
)
def test_answers_are_read_strictly_and_in_order(answer, complete, keywords):
    assert grounding.parse(answer, complete, stop_words=("The",)) == keywords


def test_keywords_that_the_text_does_not_bear_are_dropped_with_the_reason():
    kept, refused = grounding.ground(["noir", "romance", "part", "a sci fi heist among noir"], TEXT)
    assert kept == ["noir"]
    assert refused == {"romance": "not in the text", "part": "not in the text", "a sci fi heist among noir": "more than 4 words"}


@pytest.mark.parametrize(
    ("keyword", "entailed"),
    [
        ("thieves", True),
        ("party", True),
        ("robbery", False),
        ("art stealer", True),
        ("art heist", False),
        ("alley", True),
        ("zebra", False),
    ],
)
def test_other_forms_and_synonyms_are_entailed_side_by_side(wordnet, keyword, entailed):
    assert not occurs(keyword, TEXT)
    assert grounding.entails(TEXT, keyword, wordnet) is entailed


def test_entailed_keywords_stay_in_order_and_are_counted(wordnet):
    answer = {"text": "thieves, romance, noir", "finish_reason": "stop", "error": ""}
    assert read(answer, TEXT, (), wordnet) == Reading(["thieves", "noir"], {"romance": "not in the text"}, num_entailed=1)
    assert read(answer, TEXT).kept == ["noir"]  # without the table the text must say it


def test_a_lesson_has_only_categories_that_the_reader_can_see():
    settings = KeywordsSection(max_words=6, max_per_item=10)
    assert grounding.lesson(TEXT, ["Noir", "heist", "art thief", "romance"], settings) == ["heist", "noir"]


def test_variations_stay_lessons():
    lessons = [(TEXT, ["heist", "noir", "sci-fi"]), ("Pirates in the desert.", ["desert", "pirates"])]
    variations = grounding.Variations(lessons, seed=0)
    seen = set()
    for _ in range(50):
        text, keywords = variations.draw(*lessons[0])
        assert len(set(keywords)) == 3
        assert keywords == sorted(keywords)
        assert grounding.ground(keywords, text) == (keywords, {})
        seen |= {text, *keywords}
    assert {"desert", "pirates"} < seen  # keywords of another item have moved in
    assert len(seen) > 40
    again = grounding.Variations(lessons, seed=0)
    assert again.draw(*lessons[0]) == grounding.Variations(lessons, seed=0).draw(*lessons[0])


def test_precision_and_recall_are_counted_over_keywords():
    lessons = [(TEXT, ["heist", "noir"]), ("Pirates in the desert.", ["desert", "pirates"])]
    answers = [(" heist, romance", True), (" desert, pirates, the", True)]
    figures = judge(answers, lessons, KeywordsSection())
    assert figures == {"precision": 3 / 4, "recall": 3 / 4}  # romance is not grounded, so it is not found either


def test_every_domain_has_words_that_say_nothing(make_config):
    settings = make_config({"keywords": {"stop_words": ["new"], "domain_stop_words": {"movie": ["film"], "book": ["novel"]}}}).keywords
    assert grounding.parse(" film, novel, noir, new", True, settings.refused("movie")) == ["novel", "noir"]
    assert grounding.parse(" film, novel, noir, new", True, settings.refused("book")) == ["film", "noir"]
    assert grounding.parse(" film, novel, noir, new", True, settings.refused("item")) == ["film", "novel", "noir"]


def test_what_an_engine_wrote_is_read_with_its_end():
    answer = {"text": " noir, romance, art thi", "finish_reason": "length", "error": ""}
    assert read(answer, TEXT) == Reading(["noir"], {"romance": "not in the text"})
    assert read(answer, TEXT, ("noir",)).kept == []
    assert read(answer | {"error": "too long"}, TEXT) == Reading([], {}, "too long")


def test_models_that_were_not_taught_are_told_what_to_do():
    assert grounding.write_prompt("a b c", 2) == "Text: a b\nKeywords:"
    assert grounding.write_prompt("a b c", 2, grounding.INSTRUCTION) == f"{grounding.INSTRUCTION}Text: a b\nKeywords:"


def test_telling_words_are_rare_and_shared():
    common, shared, own = "everybody", "submarine", "nautilus42"
    texts = [f"{common} {'submarine below' if n % 60 == 0 else 'meadow' * (n % 2)} {own} x{n}" for n in range(300)]
    told = grounding.telling_words(texts, KeywordsSection())
    assert told[0] == ["below", "submarine"] == told[60]
    assert not told[1]  # half of the texts say meadow, all say everybody, and none shares its number
    assert shared not in grounding.telling_words(texts, KeywordsSection(stop_words=("Submarine",)))[0]
    assert not grounding.telling_words(texts, KeywordsSection(max_words=1))[0]  # what the reader does not see
