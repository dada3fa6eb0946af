"""BERTScore and BLEURT from folders made here: matched by hand, and refused where a folder is no such model."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from thinkrec.config.run import EvaluateSection
from thinkrec.errors import MissingFileError, ModelError
from thinkrec.evaluate.metrics.learned_text import bert_score, bleurt
from thinkrec.evaluate.metrics.text import text_metrics

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefgh"]
CANDIDATES, REFERENCES = ["a b c", "d", "e f", ""], ["a c", "d", "g h e", "a"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """{encoder, one output, three outputs}: tiny BERTs with random weights."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", model_max_length=32
    )
    sizes = {"vocab_size": len(WORDS), "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    made = {}
    for name, kind, num_labels in (
        ("encoder", BertModel, 2),
        ("one", BertForSequenceClassification, 1),
        ("three", BertForSequenceClassification, 3),
    ):
        torch.manual_seed(2)
        made[name] = str(tmp_path_factory.mktemp(name))
        kind(BertConfig(**sizes, num_labels=num_labels, initializer_range=0.5)).save_pretrained(made[name])
        fast.save_pretrained(made[name])
    return made


def test_bert_score_is_greedy_matching_of_the_words_vectors(folders):
    from transformers import BertModel

    model = BertModel.from_pretrained(folders["encoder"]).eval()

    def vectors(text: str, layer: int) -> np.ndarray:
        ids = [2, *(WORDS.index(word) for word in text.split()), 3]
        with torch.no_grad():
            states = model(torch.tensor([ids]), output_hidden_states=True).hidden_states[layer][0, 1:-1].double()
        return torch.nn.functional.normalize(states, dim=-1).numpy()

    for layer in (-1, 1):
        found = bert_score(folders["encoder"], CANDIDATES, REFERENCES, layer)
        for candidate, reference, score in zip(CANDIDATES[:3], REFERENCES, found, strict=False):
            similarity = vectors(candidate, layer) @ vectors(reference, layer).T
            precision, recall = similarity.max(1).mean(), similarity.max(0).mean()
            assert score == pytest.approx(2 * precision * recall / (precision + recall), abs=1e-5)
        assert found[1] == pytest.approx(1)
        assert found[3] == 0
    assert found[0] < 0.999


def test_bleurt_is_the_regressors_output_for_reference_and_candidate(folders):
    from transformers import BertForSequenceClassification

    model = BertForSequenceClassification.from_pretrained(folders["one"]).eval()
    found = bleurt(folders["one"], ["a b"], ["c d"])
    with torch.no_grad():
        assert found[0] == pytest.approx(float(model(torch.tensor([[2, 6, 7, 3, 4, 5, 3]]).long()).logits[0, 0]), abs=1e-5)


def test_wrong_folders_are_refused(folders, tmp_path):
    with pytest.raises(ModelError, match="3 labels"):
        bleurt(folders["three"], ["a"], ["b"])
    with pytest.raises(ModelError, match="no hidden layer 9"):
        bert_score(folders["encoder"], ["a"], ["b"], layer=9)
    with pytest.raises(MissingFileError):
        bert_score(str(tmp_path / "nowhere"), ["a"], ["b"])


def test_configured_models_are_measured_and_not_left_out(folders):
    settings = EvaluateSection(num_bootstrap=10, bert_score_path=folders["encoder"], bleurt_path=folders["one"])
    found = text_metrics(["u", "v"], ["a b", "c"], ["a b", "c"], settings, seed=1)
    assert found["left_out"] == {}
    assert found["metrics"]["bert_score"]["value"] == pytest.approx(1)
    assert found["metrics"]["bleurt"]["value"] is not None
