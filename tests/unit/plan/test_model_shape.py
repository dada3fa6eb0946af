"""The shape of a base against real models: parameters are counted to the last one, and what autograd keeps is added up."""

from __future__ import annotations

import json
from typing import get_args

import pytest
import torch
from tiny_folder import LLAMA_8B
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from thinkrec.config.cluster import ShapeName
from thinkrec.config.model import NanoSection
from thinkrec.errors import ModelError
from thinkrec.model.adapter_bank import install
from thinkrec.model.projector import Projector
from thinkrec.nano.model import make_model
from thinkrec.plan.memory import kept_bytes
from thinkrec.plan.model_shape import NAMED, Shape
from thinkrec.plan.phases import projector_params

ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def grouped_llama(tied: bool = True) -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=97,
            hidden_size=64,
            intermediate_size=160,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            tie_word_embeddings=tied,
        )
    )


def shape_of(model: LlamaForCausalLM, tmp_path) -> Shape:
    model.config.save_pretrained(tmp_path)
    return Shape.of_folder(tmp_path)


@pytest.mark.parametrize("tied", [False, True])
def test_every_parameter_of_a_folder_is_counted(tied, tmp_path):
    model = grouped_llama(tied)
    assert shape_of(model, tmp_path).num_params == sum(parameter.numel() for parameter in model.parameters())


def test_every_parameter_of_a_nano_base_is_counted():
    settings = NanoSection(hidden_size=96, num_layers=3)
    model = make_model(131, 64, settings, seed=0)
    assert Shape.of_nano(settings, 131).num_params == sum(parameter.numel() for parameter in model.parameters())


def test_the_8b_model_has_its_published_size(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_8B))
    shape = Shape.of_folder(tmp_path)
    assert shape.num_params == 8_030_261_248
    assert shape.adapter_params(("q_proj", "v_proj"), 8) == 3_407_872
    # Forward and input gradients of LoRA, the head apart: the 402 TFLOP/s at 12,473 tokens/s that are published for it, within a tenth.
    assert 2 * shape.forward_flops(4096) == pytest.approx(402e12 / 12473, rel=0.1)


@pytest.mark.parametrize(
    ("name", "published", "left_out"),  # biases of q, k and v in Qwen 2.5, norms of q and k in Qwen 3
    [
        ("llama3_8b", 8_030_261_248, 0),
        ("llama3_70b", 70_553_706_496, 0),
        ("llama3_2_1b", 1_235_814_400, 0),
        ("llama3_2_3b", 3_212_749_824, 0),
        ("qwen2_5_7b", 7_615_616_512, 28 * (3584 + 2 * 512)),
        ("qwen3_8b", 8_190_735_360, 36 * 2 * 128),
    ],
)
def test_a_shape_by_name_has_the_published_size(name, published, left_out):
    assert NAMED[name].num_params == published - left_out


def test_every_name_that_the_run_file_takes_is_a_shape():
    assert {"", *NAMED} == set(get_args(ShapeName))


@pytest.mark.parametrize("targets", [("q_proj", "v_proj"), ALL_LINEAR])
def test_adapter_parameters_are_those_of_the_bank(targets, tmp_path):
    model = grouped_llama()
    shape = shape_of(model, tmp_path)
    bank = install(model, targets, 1, 4, 8.0)
    assert shape.adapter_params(targets, 4) == sum(one.numel() for one in bank.parameters())
    assert shape.adapter_params(targets, 4, 2) == sum(one.numel() for one in bank.parameters(last_layers=2))


def kept(model: nn.Module, ids: torch.Tensor) -> int:
    """Bytes autograd keeps of one forward pass: distinct storages, weights left out."""
    weights = {tensor.untyped_storage().data_ptr() for tensor in [*model.parameters(), *model.buffers()]}
    found: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            alive.append(tensor)  # else its address is given out again
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    alive: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state  # alive, with all it keeps
        hidden.sum()
    return sum(found.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("dropout", [0.0, 0.05])
@pytest.mark.parametrize("targets", [("q_proj", "v_proj"), ALL_LINEAR])
def test_what_autograd_keeps_of_a_layer_is_within_a_tenth(targets, dropout, dtype, tmp_path, as_on_cuda):
    sums = []
    for num_layers in (2, 4):  # the difference is two layers, without embedding and head
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=97,
                hidden_size=128,
                intermediate_size=320,
                num_hidden_layers=num_layers,
                num_attention_heads=4,
                num_key_value_heads=2,
                attn_implementation="sdpa",
            )
        )
        bank = install(model, targets, 1, 4, 8.0, dropout)
        with bank.gated(torch.zeros(4, dtype=torch.int64)):
            sums.append(kept(model.to(dtype), torch.randint(97, (4, 64))))
        shape = shape_of(model, tmp_path)
    measured = (sums[1] - sums[0]) / 2 / (4 * 64)
    assert kept_bytes(shape, targets, 4, dtype.itemsize, bool(dropout)) == pytest.approx(measured, rel=0.1)


def test_models_of_another_kind_are_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({**LLAMA_8B, "num_local_experts": 8}))
    with pytest.raises(ModelError, match="num_local_experts"):
        Shape.of_folder(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"n_embd": 768}))
    with pytest.raises(ModelError, match="hidden_size"):
        Shape.of_folder(tmp_path)


def test_an_unknown_target_is_refused():
    with pytest.raises(ModelError, match="c_attn"):
        Shape.of_nano(NanoSection(), 100).adapter_params(("c_attn",), 4)


@pytest.mark.parametrize("source", ["mf", "lightgcn", "sasrec"])
def test_every_parameter_of_a_projector_is_counted(source, make_config):
    """The vectors of every encoder that is learned here end in a bias (encoder/fit.py)."""
    config, shape = make_config({"encoder": {"source": source}}), Shape.of_nano(NanoSection(), 131)
    projector = Projector(config.encoder.dim + 1, shape.hidden)
    assert projector_params(config, shape) == sum(parameter.numel() for parameter in projector.parameters())
