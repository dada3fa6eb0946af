"""A model folder is looked at before anything is loaded: what is missing is named, and pickled weights are not taken."""

from __future__ import annotations

import io

import pytest
from sentencepiece import SentencePieceTrainer
from tiny_folder import make_folder, put, without

from thinkrec.config.model import NanoSection
from thinkrec.errors import MissingFileError, ModelError
from thinkrec.model.base import load_config, load_model
from thinkrec.model.check import BaseFolder
from thinkrec.nano import model as nano
from thinkrec.prompt.model_folder import check_folder
from thinkrec.prompt.tokenizer import SLOT, load_tokenizer

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
    with pytest.raises(MissingFileError, match="model folder is not there"):
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


@pytest.mark.parametrize("kind", ["llama", "mistral"])
def test_a_tokenizer_model_alone_is_read(kind, tmp_path):
    """As older releases of the Llama family come."""
    folder = make_folder(tmp_path / "base", kind, vocab_size=420)
    (folder / "tokenizer.json").unlink()
    written = io.BytesIO()
    sentences = [f"{verdict} would the user like these items" for verdict in ("Yes", "No")]
    options = {"model_type": "bpe", "vocab_size": 320, "byte_fallback": True, "minloglevel": 2}
    SentencePieceTrainer.train(sentence_iterator=iter(sentences * 20), model_writer=written, **options)
    (folder / "tokenizer.model").write_bytes(written.getvalue())
    put("tokenizer_config.json", tokenizer_class="LlamaTokenizer", pad_token=None, bos_token="<s>", eos_token="</s>", backend=None)(folder)
    BaseFolder(str(folder), ("q_proj",), "2024-07-26").check()
    tokenizer = load_tokenizer(folder)
    assert tokenizer.decode(tokenizer.encode("these items", add_special_tokens=False)) == "these items"
    (folder / "tokenizer.model").write_bytes(b"torn")
    with pytest.raises(ModelError, match="cannot use the model folder"):
        BaseFolder(str(folder), ("q_proj",), "2024-07-26").check()


@pytest.mark.parametrize(
    "spoil", [without("lm_head.weight"), without("model.layers.1.mlp.up_proj.weight"), put("config.json", vocab_size=500)]
)
def test_what_was_not_in_the_files_is_never_loaded(spoil, tmp_path):
    """Also where nobody has looked before: a worker, an engine."""
    folder = make_folder(tmp_path / "base")
    load_model(folder, "float32")
    spoil(folder)
    with pytest.raises(ModelError, match="the weights"):
        load_model(folder, "float32")


def test_a_load_asks_nobody_and_runs_nothing(tmp_path, monkeypatch):
    folder = make_folder(tmp_path / "base")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("builtins.input", lambda *asked: pytest.fail("somebody was asked"))
    (folder / "my.py").write_text("open('owned', 'w').write('')")
    code = {"AutoConfig": "my.C", "AutoModelForCausalLM": "my.M"}
    put("config.json", auto_map=code)(folder)
    put("tokenizer_config.json", auto_map={"AutoTokenizer": ["my.T", None]})(folder)
    load_config(folder), load_model(folder, "float32"), load_tokenizer(folder)
    put("tokenizer_config.json", tokenizer_class="T")(folder)
    with pytest.raises(ModelError, match="code of the folder's own"):
        load_tokenizer(folder)
    assert not (tmp_path / "owned").exists()
