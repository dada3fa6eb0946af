"""A DeepSpeed engine under every shipped file, in this process alone: it keeps what is planned, and checkpointing changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from thinkrec.model.adapter_bank import install
from thinkrec.model.batch import Instance, collate
from thinkrec.model.recommender import Recommender
from thinkrec.plan.memory import Load, Zero, of_worker
from thinkrec.plan.model_shape import Shape
from thinkrec.prompt.template import Prompt
from thinkrec.train import loop
from thinkrec.train.deepspeed import engine as zero
from thinkrec.train.deepspeed import frozen

SHIPPED = sorted(file.stem for file in (Path(__file__).parents[4] / "ds_configs").glob("*.json"))
SHAPE = Shape(128, 320, 2, 4, 2, 32, 97, False)
TARGETS = ("q_proj", "v_proj")
ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
NUM_ROWS, NUM_TOKENS, RANK = 4, 48, 4

pytestmark = pytest.mark.usefixtures("one_rank")


def recommender_of(bf16: bool, num_layers: int = 2, targets: tuple[str, ...] = TARGETS, dropout: float = 0.05) -> Recommender:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=SHAPE.vocab,
        hidden_size=SHAPE.hidden,
        intermediate_size=SHAPE.intermediate,
        num_hidden_layers=num_layers,
        num_attention_heads=SHAPE.num_heads,
        num_key_value_heads=SHAPE.num_kv_heads,
    )
    llm = LlamaForCausalLM(config).to(torch.bfloat16 if bf16 else torch.float32)
    bank = install(llm, targets, 1, RANK, 8.0, dropout)
    for layer in bank.layers.values():
        torch.nn.init.normal_(layer.lora_B, std=0.1)
    return Recommender(llm, bank, (3, 4))


def engine_of(recommender: Recommender, settings: dict[str, Any]) -> Any:
    trained = list(recommender.bank.parameters())
    start = loop.fresh(
        {name: one.detach().clone() for name, one in recommender.named_parameters() if any(one is other for other in trained)}
    )
    engine = zero.initialise(recommender, trained, settings, 0.01)
    zero.deal_state(engine, start, [0])
    engine.train()
    return engine


def batch_of(seed: int = 0):
    ids = np.random.default_rng(seed).integers(5, SHAPE.vocab, (NUM_ROWS, NUM_TOKENS - 1)).tolist()
    rows = [Instance(Prompt(prompt, []), [4, 2], 0, at, float(at % 2), 0.9, 0.1) for at, prompt in enumerate(ids)]
    return collate(rows, torch.zeros(NUM_ROWS, dtype=torch.int64), None, None, 0)


def step(engine: Any, seed: int, rate: float = 1e-2) -> float:
    """Two micro batches and a step."""
    torch.manual_seed(seed)
    zero.set_rates(engine, [rate])
    losses = []
    for last in (False, True):
        engine.set_gradient_accumulation_boundary(last)
        loss, _ = engine(batch_of(seed + 10 * last), 0.0, 1)
        engine.backward(loss, scale_wrt_gas=False)
        losses.append(float(loss.detach()))
    engine.step()
    return sum(losses)


def kept(recommender: Recommender, settings: dict[str, Any]) -> tuple[int, set[tuple[int, ...]]]:
    """Bytes that autograd keeps of one forward pass beside the weights, and the shapes of frozen weights that it holds on to by a view."""
    engine_of(recommender, settings)
    weights = {one.data_ptr() for p in recommender.parameters() for one in (p, getattr(p, "ds_tensor", p)) if one.numel()}
    frozen_shapes = {
        tuple(getattr(p, "ds_shape", p.shape)) for name, p in recommender.named_parameters() if "layers" in name and "lora" not in name
    }
    found, held, alive = dict[int, int](), set[tuple[int, ...]](), []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            alive.append(tensor)  # else its address is given out again
            found[storage.data_ptr()] = storage.nbytes()
        elif not isinstance(tensor, torch.nn.Parameter) and tensor.dim() == 2:
            held.update({tuple(tensor.shape), tuple(tensor.shape[::-1])} & frozen_shapes)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        hidden = recommender.hidden(batch_of())
    assert hidden.requires_grad
    return sum(found.values()), held


@pytest.mark.parametrize("targets", [TARGETS, ALL_LINEAR], ids=("q v", "all"))
@pytest.mark.parametrize("name", SHIPPED)
def test_activations_are_planned_within_a_tenth_under_every_shipped_file(name, targets, as_on_cuda):
    settings = zero.read_config(name)
    file = Zero.of_file(settings)
    few, many = (kept(recommender_of(file.bf16, layers, targets), settings) for layers in (2, 4))
    measured = (many[0] - few[0]) / 2  # of one layer, without embedding and head
    load = Load(0, 0, 1, NUM_ROWS * NUM_TOKENS, NUM_ROWS, frozenset(targets), RANK, 2 if file.bf16 else 4, dropout=True)
    assert of_worker(SHAPE, load, file, 1).activations == pytest.approx(measured, rel=0.1)
    assert file.stage < 3 or not few[1]


def test_frozen_layers_would_keep_their_inputs_or_their_weights(monkeypatch, as_on_cuda):
    """The control: DeepSpeed's own linear keeps inputs, PyTorch's the weights that ZeRO-3 has gathered."""
    monkeypatch.setattr(torch.nn.functional, "linear", torch.nn.functional.linear)  # DeepSpeed replaces it
    settings = zero.read_config("zero3")
    ours, _ = kept(recommender_of(True), settings)
    monkeypatch.setattr(frozen, "keep_no_inputs", lambda module: None)
    plain, pinned = kept(recommender_of(True), settings)
    assert pinned
    assert plain == ours
    settings["zero_optimization"]["memory_efficient_linear"] = True
    efficient, pinned = kept(recommender_of(True), settings)
    assert not pinned
    assert efficient > 1.15 * ours


@pytest.mark.parametrize("name", ["zero1", "zero2", "zero3"])
def test_the_buffers_of_gradients_are_as_planned(name):
    """DeepSpeed's own size is 500 million numbers, however few are trained."""
    settings, recommender, found = zero.read_config(name), recommender_of(True), list[int]()
    num_trained = sum(one.numel() for one in recommender.bank.parameters())
    engine = engine_of(recommender, settings)
    engine.set_gradient_accumulation_boundary(False)
    loss, _ = engine(batch_of(), 0.0, 1)
    first = recommender.bank.layers["model.layers.1.self_attn.q_proj"].lora_B  # of the last layer: buffers are there when it has a gradient

    def look(gradient: torch.Tensor) -> None:
        held = [bucket.buffer for bucket in engine.optimizer.ipg_buckets.values()]
        found.extend(one.nbytes for buffers in held for one in (buffers if isinstance(buffers, list) else [buffers]))

    first.register_hook(look)
    engine.backward(loss, scale_wrt_gas=False)
    load = Load(0, num_trained, 2, NUM_ROWS * NUM_TOKENS, NUM_ROWS, frozenset(TARGETS), RANK, 2)
    assert sum(found) == of_worker(SHAPE, load, Zero.of_file(settings), 1).buckets
    assert Zero.of_file({"zero_optimization": {"stage": 1, "reduce_bucket_size": 7}}).bucket == 7


def weights_after(name: str, checkpointing: bool, settings: dict[str, Any] | None = None) -> tuple[list[float], dict[str, Any]]:
    recommender = recommender_of(True, dropout=0.2)
    if checkpointing:
        recommender.llm.gradient_checkpointing_enable({"use_reentrant": False, "context_fn": recommender.bank.checkpointed})
    engine = engine_of(recommender, settings or zero.read_config(name))
    losses = [step(engine, seed) for seed in range(2)]
    return losses, {key: parts[0] for key, parts in zero.gather_state(engine).items()}


@pytest.mark.parametrize("name", ["zero1", "zero2", "zero3"])
def test_checkpointing_changes_nothing(name):
    """Bit for bit, so dropout draws the same masks when a layer is computed again."""
    plain, again = weights_after(name, False), weights_after(name, True)
    assert plain[0] == again[0]
    assert all(torch.equal(plain[1][key], again[1][key]) for key in plain[1])
    assert any(bool(weight.abs().max() > 0) for weight in again[1].values())


def test_checkpointing_keeps_the_inputs_of_layers_alone(as_on_cuda):
    sums = []
    for num_layers in (2, 4):
        recommender = recommender_of(True, num_layers)
        recommender.llm.gradient_checkpointing_enable({"use_reentrant": False, "context_fn": recommender.bank.checkpointed})
        sums.append(kept(recommender, zero.read_config("zero1"))[0])
    load = Load(0, 0, 1, NUM_ROWS * NUM_TOKENS, NUM_ROWS, frozenset(TARGETS), RANK, 2, dropout=True, recomputed=True)
    one, two = (of_worker(SHAPE, Load(**{**vars(load), "num_layers": layers}), Zero(1), 1).activations for layers in (1, 2))
    assert two - one == pytest.approx((sums[1] - sums[0]) / 2, rel=0.1)


@pytest.mark.parametrize("name", ["zero2", "zero3"])
def test_gradients_add_up_in_fp32_where_the_file_says_so(name):
    settings = zero.read_config(name)
    plain = weights_after(name, False, settings)
    wide = weights_after(name, False, settings | {"data_types": {"grad_accum_dtype": "fp32"}})
    assert wide[0] == pytest.approx(plain[0], rel=1e-2)
    assert any(not torch.equal(plain[1][key], wide[1][key]) for key in plain[1])
