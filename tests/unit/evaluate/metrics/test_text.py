"""METEOR equals NLTK's with the real WordNet (numbers stored once); BLEU, ROUGE and the degenerate texts by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from thinkrec.config.run import EvaluateSection
from thinkrec.evaluate.metrics import text
from thinkrec.text.wordnet.table import WordNet

STORED = json.loads((Path(__file__).parent / "meteor_nltk.json").read_text())
PAIRS = STORED["pairs"]
SETTINGS = EvaluateSection(num_bootstrap=50)


@pytest.fixture(scope="module")
def wordnet() -> WordNet:
    return WordNet.load()


@pytest.mark.parametrize("word", STORED["synonyms"])
def test_synonyms_are_those_of_the_real_wordnet(wordnet, word):
    found = {lemma.name() for synset in wordnet.synsets(word) for lemma in synset.lemmas()}
    assert sorted(name for name in found if "_" not in name) == STORED["synonyms"][word]


def test_meteor_equals_nltk_with_the_real_wordnet():
    found = text.meteor([pair["candidate"] for pair in PAIRS], [pair["reference"] for pair in PAIRS])
    assert found.tolist() == [pair["meteor"] for pair in PAIRS]
    num_synonymous = sum(pair["meteor"] != pair["without_synonyms"] for pair in PAIRS)
    assert num_synonymous >= 10  # or the stored numbers would prove nothing about the table


def test_degenerate_texts_have_a_meteor():
    assert text.meteor(["", "film", "film", ""], ["film", "", "film", ""]).tolist() == [0, 0, 0.5, 0]  # one chunk of one word: half


def test_words_are_runs_of_letters_and_digits():
    assert text.tokens('It\'s "Sci-Fi", 3 of 4_5.') == ["it", "s", "sci", "fi", "3", "of", "4", "5"]


def test_rouge_by_hand():
    found = text.rouge(["a b c", ""], ["a c b d", "a"])
    assert found["rouge1"].tolist() == pytest.approx([2 * 1 * 0.75 / 1.75, 0])
    assert found["rouge2"].tolist() == [0, 0]
    assert found["rougeL"].tolist() == pytest.approx([2 * (2 / 3) * 0.5 / (2 / 3 + 0.5), 0])


def test_bleu_is_of_the_corpus():
    assert text.bleu(["a b c d e", "x y"], ["a b c d e", "x y"]) == pytest.approx(1)
    precisions = [6 / 7, 4 / 5, 3 / 3, 2 / 2]  # counted over both texts, not averaged
    assert text.bleu(["a b c d e", "x z"], ["a b c d e", "x y"]) == pytest.approx(math.prod(precisions) ** 0.25)
    assert text.bleu([""], ["a b c d"]) == 0


def test_shuffled_references_score_lower():
    told = ["gloomy noir films in the rain", "a heist in the desert", "pirates at sea with gold", "an opera about love", "jazz by night"]
    found = text.text_metrics(list("abcde"), told, told, SETTINGS, seed=1)
    assert found["num_pairs"] == 5
    for name in ("meteor", "bleu", "rouge1", "rouge2", "rougeL"):
        metric = found["metrics"][name]
        assert metric["shuffled"] < 0.5 < 0.99 < metric["value"]
        assert metric["definition"]
    assert found["metrics"]["meteor"]["low"] <= found["metrics"]["meteor"]["value"] <= found["metrics"]["meteor"]["high"]


def test_what_is_left_out_is_said():
    found = text.text_metrics(["u"], ["one"], ["one"], SETTINGS, seed=1)
    assert found["left_out"] == {"bert_score": "evaluate.bert_score_path is empty", "bleurt": "evaluate.bleurt_path is empty"}
    assert {metric["shuffled"] for metric in found["metrics"].values()} == {None}  # one pair alone
    assert found["metrics"]["meteor"]["low"] is None


def test_rows_of_one_user_weigh_as_rows():
    found = text.text_metrics(["u", "u", "v"], ["film", "film", "x"], ["film", "film", "y"], SETTINGS, seed=1)
    assert found["metrics"]["meteor"]["value"] == pytest.approx(2 / 3 * 0.5)
