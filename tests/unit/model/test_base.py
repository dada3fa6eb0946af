"""A base folder is looked at before anything is loaded: what is missing is named, and pickled weights are not taken."""

from __future__ import annotations

import pytest

from thinkrec.config import NanoSection
from thinkrec.errors import MissingFileError, ModelError
from thinkrec.model import nano
from thinkrec.model.base import check_folder, load_model, load_tokenizer
from thinkrec.model.prompt import SLOT

SMALL = NanoSection(hidden_size=32, num_layers=1, vocab_size=300)


@pytest.fixture
def folder(tmp_path):
    tokenizer = nano.make_tokenizer(["some text"], [" Yes", " No"], SMALL)
    nano.save(tmp_path / "base", nano.make_model(len(tokenizer), 32, SMALL, seed=3), tokenizer)
    return tmp_path / "base"


def test_a_saved_nano_is_a_base_and_frozen(folder):
    assert check_folder(str(folder)) == folder
    model, tokenizer = load_model(folder, "float32"), load_tokenizer(folder)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    made = nano.make_model(len(tokenizer), 32, SMALL, seed=3)
    assert all(weight.equal(made.state_dict()[name]) for name, weight in model.state_dict().items())


def test_a_tokenizer_without_slot_or_padding_gets_both(folder):
    from transformers import AutoTokenizer

    bare = AutoTokenizer.from_pretrained(str(folder))
    bare.pad_token = None
    bare.save_pretrained(str(folder))
    loaded = load_tokenizer(folder)
    assert loaded.pad_token_id is not None
    assert loaded.encode(SLOT, add_special_tokens=False) == [loaded.convert_tokens_to_ids(SLOT)]


def test_what_is_missing_is_named(folder, tmp_path):
    with pytest.raises(MissingFileError, match="base folder is not there"):
        check_folder(tmp_path / "nowhere")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"no safetensors file.*pytorch_model\.bin"):
        check_folder(folder)
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(ModelError, match="no weights at all"):
        check_folder(folder)
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"no config\.json"):
        check_folder(folder)
