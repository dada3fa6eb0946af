"""Model folders that are not what their files say, whoever is to use them: refused by name before any stage, and none of their code run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from spoil import Case, Spoiler, content, gone, text, until
from tiny_folder import put, weights, without

BASE = until("ingest", "base.source=folder", "base.path=given/base", "traces.enabled=false")
TEACHER = until("ingest", 'traces.teachers=[{name="a",path="given/base"}]')
EXTRACTOR = until("ingest", "traces.enabled=false", "keywords.source=engine", "keywords.extractor=given/base")
BERT, BLEURT = (until("ingest", "traces.enabled=false", f"evaluate.{name}_path=given/base") for name in ("bert_score", "bleurt"))
HEAD, PROJECTION = "lm_head.weight", "model.layers.1.self_attn.k_proj.weight"
CODE = "open('owned', 'w').write('')\n"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def base(*changes: Spoiler) -> Spoiler:
    """The base folder, changed."""

    def spoil(folder: Path) -> None:
        for change in changes:
            change(folder / "given/base")

    return spoil


def renamed(old: str, new: str) -> Spoiler:
    return weights(lambda tensors: {new if name == old else name: tensor for name, tensor in tensors.items()})


def index(**named: str) -> Spoiler:
    return put("model.safetensors.index.json", weight_map=named)


def template(body: str) -> Spoiler:
    return text("given/base/chat_template.jinja", "{% for m in messages %}<user>" + body + "</user>{% endfor %}<assistant>")


def cast(dtype: torch.dtype) -> Spoiler:
    return weights(lambda tensors: {**tensors, PROJECTION: tensors[PROJECTION].to(dtype)})


def own_code(folder: Path) -> None:
    for name in ("tokenization_my", "modeling_my", "configuration_my"):
        (folder / f"{name}.py").write_text(CODE)


TOKENIZER_CODE = (
    own_code,
    put("tokenizer_config.json", tokenizer_class="MyTok", auto_map={"AutoTokenizer": ["tokenization_my.MyTok", None]}),
)
MODEL_CODE = (own_code, put("config.json", model_type="mine", auto_map={"AutoConfig": "configuration_my.C", "AutoModel": "modeling_my.M"}))

CASES = {
    # Tensors.
    "no head": Case(base(without(HEAD)), BASE, rf"lack tensors of LlamaForCausalLM: {HEAD}"),
    "one projection of one layer": Case(base(without(PROJECTION)), BASE, f"lack tensors.*{PROJECTION}"),
    "a misnamed tensor": Case(base(renamed(PROJECTION, "model.layers.1.k.weight")), BASE, f"lack tensors.*{PROJECTION}"),
    "a layer too many": Case(base(put("config.json", num_hidden_layers=1)), BASE, r"no place for: model\.layers\.1.* and 6 more"),
    "a layer too few": Case(base(put("config.json", num_hidden_layers=3)), BASE, r"lack tensors.*model\.layers\.2.* and 6 more"),
    "another vocabulary": Case(base(put("config.json", vocab_size=500)), BASE, r"lm_head\.weight is \(\d+, 32\) and should be \(500, 32\)"),
    "another kind of model": Case(base(put("config.json", model_type="qwen2")), BASE, r"lack tensors of Qwen2.*k_proj\.bias"),
    "a head that should be the embedding": Case(base(put("config.json", tie_word_embeddings=True)), BASE, "two different ones"),
    "a teacher without a head": Case(base(without(HEAD)), TEACHER, f"lack tensors.*{HEAD}"),
    "an extractor without a projection": Case(base(without(PROJECTION)), EXTRACTOR, f"lack tensors.*{PROJECTION}"),
    "an encoder without a projection": Case(base(without(PROJECTION)), BERT, r"lack tensors of LlamaModel: layers\.1\.self_attn\.k_proj"),
    "a measure without its head": Case(base(), BLEURT, r"lack tensors of LlamaForSequenceClassification: score\.weight"),
    "a layer that the encoder has not": Case(base(), (*BERT, "--set", "evaluate.bert_score_layer=3"), "no hidden layer 3, only 3"),
    # Files.
    "a shard without an index": Case(base(weights(dict, SHARDS[0])), BASE, f"no index names {SHARDS[0]}"),
    "weights of another name": Case(base(weights(dict, "weights.safetensors")), BASE, "neither model.safetensors nor"),
    "a stray shard": Case(content(f"given/base/{SHARDS[1]}", b""), BASE, f"no index names {SHARDS[1]}"),
    "a whole file and an index of shards": Case(
        base(index(a=SHARDS[0]), lambda folder: (folder / SHARDS[0]).write_bytes(b"")), BASE, "stands beside an index of other files"
    ),
    "an index without a map": Case(base(put("model.safetensors.index.json", metadata={})), BASE, "no weight_map"),
    "an index of numbers": Case(base(put("model.safetensors.index.json", weight_map={"a": 3})), BASE, "no weight_map"),
    "an adapter beside the model": Case(base(put("adapter_config.json", r=8)), BASE, "an adapter lies in the model folder"),
    "a torn generation config": Case(text("given/base/generation_config.json", "{"), BASE, r"not JSON.*generation_config\.json"),
    "a torn tokenizer config": Case(text("given/base/tokenizer_config.json", "[]"), BASE, r"holds a list.*tokenizer_config\.json"),
    "an empty tokenizer": Case(text("given/base/tokenizer.json", "{}"), BASE, "cannot use the model folder"),
    # Quantised.
    "bitsandbytes": Case(base(put("config.json", quantization_config={"quant_method": "bitsandbytes"})), BASE, "weights are quantised"),
    "GPTQ": Case(base(put("quantize_config.json", bits=4)), BASE, "weights are quantised"),
    "MLX": Case(base(put("config.json", quantization={"bits": 4})), BASE, "weights are quantised"),
    "a quantised teacher": Case(base(put("config.json", quantization_config={"quant_method": "awq"})), TEACHER, "weights are quantised"),
    "integers": Case(base(cast(torch.int8)), BASE, f"these weights are I8: {PROJECTION}"),
    "small floats": Case(base(cast(torch.float8_e4m3fn)), BASE, f"these weights are F8_E4M3: {PROJECTION}"),
    # Config.
    "no model_type": Case(base(put("config.json", model_type=None)), BASE, "model_type"),
    "an unknown model_type": Case(base(put("config.json", model_type="nosuch")), BASE, "nosuch"),
    "no causal model": Case(base(put("config.json", model_type="t5")), BASE, "T5Config"),
    "a width that is text": Case(base(put("config.json", hidden_size="32")), BASE, "hidden_size"),
    "layers under other names": Case(base(), (*BASE, "--set", 'adapter.target_modules=["qkv_proj"]'), "no linear layer called qkv_proj"),
    # Code.
    "a tokenizer of its own code": Case(base(*TOKENIZER_CODE), BASE, "MyTok is code of the folder's own"),
    "a teacher's tokenizer of its own code": Case(base(*TOKENIZER_CODE), TEACHER, "MyTok is code of the folder's own"),
    "a tokenizer's code in the old form": Case(
        base(own_code, put("tokenizer_config.json", tokenizer_class=None, auto_map=["tokenization_my.MyTok", None])),
        BASE,
        "without a class",
    ),
    "an encoder's tokenizer of its own code": Case(base(*TOKENIZER_CODE), BERT, "MyTok is code of the folder's own"),
    "a model of its own code": Case(base(*MODEL_CODE), BASE, "mine|custom code"),
    "an extractor of its own code": Case(base(*MODEL_CODE), EXTRACTOR, "mine|custom code"),
    "attention to fetch": Case(base(put("config.json", _attn_implementation="some/kernel")), BASE, "names code to fetch"),
    # Tokens.
    "no end token": Case(base(put("tokenizer_config.json", eos_token=None)), BASE, "no end token"),
    "tokens without a row": Case(
        base(put("tokenizer_config.json", extra_special_tokens=[f"<t{n}>" for n in range(9)])), BASE, "none for: <t8>"
    ),
    "an end token without a row": Case(
        base(put("tokenizer_config.json", extra_special_tokens=[f"<t{n}>" for n in range(8)], eos_token="<end>")), BASE, "none for: <t7>"
    ),
    "a teacher without an end": Case(base(put("tokenizer_config.json", eos_token=None)), TEACHER, "no end token"),
    # Chat templates.
    "a list of parts": Case(template("{% for part in m.content %}{{ part.text }}{% endfor %}"), BASE, "words once as they are .0 times"),
    "words left out": Case(template(""), BASE, "once as they are .0 times"),
    "words in capitals": Case(template("{{ m.content | upper }}"), BASE, "once as they are .0 times"),
    "words escaped": Case(template("{{ m.content | tojson }}"), BASE, "once as they are .0 times"),
    "words in quotes": Case(template('"{{ m.content }}"'), BASE, "quotes the user's words"),
    "words twice": Case(template("{{ m.content }} {{ m.content }}"), BASE, "once as they are .2 times"),
    "words twice, once in small letters": Case(template("{{ m.content }} {{ m.content | lower }}"), BASE, "once as they are"),
    "words after the answer": Case(
        text("given/base/chat_template.jinja", "{% if add_generation_prompt %}<assistant>{% endif %}{{ messages[0].content }}"),
        BASE,
        "opens the answer before",
    ),
    "a template that raises": Case(template("{{ raise_exception('no users here') }}"), BASE, "no users here"),
    "a template that is none": Case(template("{% if %}"), BASE, "the chat template fails"),
    "a template that draws lots": Case(template("{{ m.content }}{{ [1, 2] | random }}"), BASE, "draws lots"),
    "a teacher's template": Case(template("{{ m.content | upper }}"), TEACHER, "once as they are .0 times"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_folder_that_is_not_what_it_says_is_refused(folder, refused, case, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *asked: pytest.fail("somebody was asked"))
    refused(case)
    assert not (folder / "owned").exists()
    assert not (folder / "run/ingest").exists()


@pytest.mark.parametrize(
    "words", [("plan", "run.toml"), ("preflight", "run.toml"), ("run", "run.toml", "--dry-run"), ("sweep", "sweep.toml", "--plan")]
)
def test_every_command_says_the_same(folder, refused, words):
    (folder / "sweep.toml").write_text('title = "T"\nrecipe = "run.toml"\ndir = "run"\nreference = "a"\n[trials.a]\n')
    refused(Case(base(without(PROJECTION)), (*words, *BASE[4:]), f"lack tensors.*{PROJECTION}"))


@pytest.mark.parametrize("words", [BASE, TEACHER, EXTRACTOR, BERT])
def test_the_controls_are_sound(command, words):
    assert command(*words)[0] == 0


SOUND = {
    "code that nobody needs": (
        own_code,
        put("config.json", auto_map={"AutoConfig": "configuration_my.C", "AutoModelForCausalLM": "modeling_my.M"}),
    ),
    "a known tokenizer with code": (own_code, put("tokenizer_config.json", auto_map={"AutoTokenizer": ["tokenization_my.MyTok", None]})),
    "a bare model whose head is its embedding": (put("config.json", tie_word_embeddings=True), without(HEAD)),
    "a head that is a copy of the embedding": (
        put("config.json", tie_word_embeddings=True),
        weights(lambda tensors: {**tensors, HEAD: tensors["model.embed_tokens.weight"].clone()}),
    ),
    "a buffer of old": (weights(lambda tensors: {**tensors, "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}),),
    "half floats": (weights(lambda tensors: {name: tensor.bfloat16() for name, tensor in tensors.items()}),),
    "weights for another tool": (lambda folder: (folder / "consolidated.safetensors").write_bytes(b""),),
    "shards": (
        index(**dict.fromkeys((HEAD, PROJECTION), "model-00001-of-00001.safetensors")),
        weights(dict, "model-00001-of-00001.safetensors"),
    ),
    "no chat template": (lambda folder: (folder / "chat_template.jinja").unlink(),),
    "words trimmed": (lambda folder: template("{{ m.content | trim }}")(folder.parents[1]),),
}


@pytest.mark.parametrize("case", SOUND)
def test_a_folder_that_is_what_it_says_is_taken(folder, command, case):
    base(*SOUND[case])(folder)
    code, err = command(*BASE)
    assert code == 0, err
    assert not (folder / "owned").exists()


def test_two_shards_with_one_tensor_are_refused(folder, refused):
    def spoil(folder: Path) -> None:
        weights(dict, SHARDS[0])(folder)
        (folder / SHARDS[1]).write_bytes((folder / SHARDS[0]).read_bytes())
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": dict(zip("ab", SHARDS, strict=True))}))

    refused(Case(base(spoil), BASE, "stand in this file and in another one"))


def test_a_base_without_its_tokenizers_file_is_refused(refused):
    refused(Case(gone("given/base/tokenizer.json"), BASE, "no tokenizer"))
