"""The bank: fused = merged for random gates, rows of one batch do not see each other's mixture, one-hot gates train one expert alone."""

from __future__ import annotations

import copy
from contextlib import nullcontext

import pytest
import torch

from thinkrec.errors import ModelError
from thinkrec.model.adapter_bank import install, peft_key

TARGETS = ("q_proj", "v_proj", "down_proj")
NUM_EXPERTS = 3


@pytest.fixture
def banked(make_llama):
    """A llama with a bank of three unlike experts, all far from zero."""
    model = make_llama()
    plain = copy.deepcopy(model)
    bank = install(model, TARGETS, NUM_EXPERTS, rank=4, alpha=8.0)
    generator = torch.Generator().manual_seed(1)
    for layer in bank.layers.values():
        layer.lora_B.data.normal_(0, 0.3, generator=generator)
    return model, bank, plain


def merged(plain, bank, gates):
    """The plain model with sum_k g_k s_k B_k A_k added to its weights."""
    model = copy.deepcopy(plain)
    for name, layer in bank.layers.items():
        delta = sum(g * layer.scale * b @ a for g, a, b in zip(gates, layer.lora_A, layer.lora_B, strict=True))
        model.get_submodule(name).weight.data += delta
    return model


def logits(model, ids, bank=None, gates=None, fusion="exact"):
    with torch.no_grad(), bank.gated(gates, fusion) if bank is not None else nullcontext():
        return model(input_ids=ids).logits


def test_a_batch_of_mixtures_equals_each_rows_merged_model(banked):
    model, bank, plain = banked
    gates = torch.rand(5, NUM_EXPERTS, generator=torch.Generator().manual_seed(2))
    ids = torch.randint(0, 97, (5, 11), generator=torch.Generator().manual_seed(3))
    fused = logits(model, ids, bank, gates)
    for row in range(5):
        alone = logits(merged(plain, bank, gates[row]), ids[row : row + 1])
        assert (fused[row] - alone[0]).abs().max() <= 1e-5
    # The control: another row's mixture is another model.
    assert (fused[0] - logits(merged(plain, bank, gates[1]), ids[:1])[0]).abs().max() > 1e-2


def test_without_gates_the_base_speaks(banked):
    model, bank, plain = banked
    ids = torch.arange(8).reshape(1, 8)
    assert torch.equal(logits(model, ids, bank, None), logits(plain, ids))


def test_peft_linear_inflates_what_experts_share(banked):
    """Identical experts mixed half and half must give that expert; the published arithmetic doubles it (D1)."""
    model, bank, plain = banked
    for layer in bank.layers.values():
        layer.lora_A.data[1], layer.lora_B.data[1] = layer.lora_A.data[0], layer.lora_B.data[0]
    ids, half = torch.arange(9).reshape(1, 9), torch.tensor([[0.5, 0.5, 0.0]])
    one = logits(merged(plain, bank, [1, 0, 0]), ids)
    assert (logits(model, ids, bank, half) - one).abs().max() <= 1e-5
    doubled = logits(merged(plain, bank, [2, 0, 0]), ids)
    published = logits(model, ids, bank, half, "peft_linear")
    assert (published - doubled).abs().max() <= 1e-5
    assert (published - one).abs().max() > 1e-2


def test_peft_linear_leaves_a_single_expert_alone(banked):
    model, bank, plain = banked
    ids, one = torch.arange(9).reshape(1, 9), torch.tensor([[0.0, 1.0, 0.0]])
    assert (logits(model, ids, bank, one, "peft_linear") - logits(merged(plain, bank, [0, 1, 0]), ids)).abs().max() <= 1e-5


def test_one_hot_gates_give_other_experts_exactly_zero_gradient(banked):
    model, bank, _ = banked
    for parameter in bank.parameters():
        parameter.requires_grad_(True)
    with bank.gated(torch.nn.functional.one_hot(torch.tensor([1, 1]), NUM_EXPERTS).float()):
        model(input_ids=torch.arange(12).reshape(2, 6)).logits.square().mean().backward()
    for layer in bank.layers.values():
        assert layer.lora_B.grad[1].abs().sum() > 0
        assert not layer.lora_A.grad[[0, 2]].any()
        assert not layer.lora_B.grad[[0, 2]].any()


def test_one_adapter_a_row_is_a_one_hot_gate_without_its_zeros(banked):
    model, bank, _ = banked
    slots = torch.tensor([2, 0, 0, 1, 2])
    ids = torch.randint(0, 97, (5, 9), generator=torch.Generator().manual_seed(3))
    gradients = []
    for parameter in bank.parameters():
        parameter.requires_grad_(True)
    for gates in (slots, torch.nn.functional.one_hot(slots, NUM_EXPERTS).float()):
        with bank.gated(gates):
            loss = model(input_ids=ids).logits.square().mean()
        gradients.append([loss.detach(), *torch.autograd.grad(loss, list(bank.parameters()))])
    for short, long in zip(*gradients, strict=True):
        assert (short - long).norm() <= 1e-5 * long.norm()
    other = logits(model, ids, bank, slots.flip(0))
    assert (other - logits(model, ids, bank, slots)).abs().max() > 1e-2


def test_gates_end_with_their_block_and_nest(banked):
    model, bank, _ = banked
    ids, first, second = torch.arange(8).reshape(1, 8), torch.tensor([0]), torch.tensor([1])
    base, alone = logits(model, ids), logits(model, ids, bank, first)
    with bank.gated(first):
        inner = logits(model, ids, bank, second)
        assert torch.equal(logits(model, ids), alone)
        with pytest.raises(RuntimeError, match="stopped"), bank.gated(second):
            raise RuntimeError("stopped")
        assert torch.equal(logits(model, ids), alone)
    assert torch.equal(logits(model, ids), base)
    assert len({float(one.sum()) for one in (base, alone, inner)}) == 3


def test_gates_of_another_batch_and_of_other_adapters_are_named(banked):
    model, bank, _ = banked
    for gates in (torch.tensor([0, 1]), torch.ones(2, NUM_EXPERTS)):
        with pytest.raises(ModelError, match="gates for 2 rows meet a batch of 5"):
            logits(model, torch.arange(10).reshape(5, 2), bank, gates)
    with pytest.raises(ModelError, match="gates of 2 adapters for a bank of 3"):
        logits(model, torch.arange(10).reshape(5, 2), bank, torch.ones(5, 2))


def test_what_is_computed_again_has_the_gates_of_its_forward_pass(banked):
    """The block is over when the backward pass begins; without `checkpointed` it would meet the base alone."""
    model, bank, _ = banked
    for parameter in bank.parameters():
        parameter.requires_grad_(True)

    def gradients():
        with bank.gated(torch.tensor([2, 0])):
            loss = model(input_ids=torch.arange(12).reshape(2, 6), use_cache=False).logits.square().mean()
        with bank.gated(torch.tensor([1, 1])):  # whatever is set by then
            return torch.autograd.grad(loss, list(bank.parameters()))

    plain = gradients()
    model.train().gradient_checkpointing_enable({"use_reentrant": False, "context_fn": bank.checkpointed})
    assert all(torch.equal(one, other) for one, other in zip(plain, gradients(), strict=True))
    model.gradient_checkpointing_enable({"use_reentrant": False})
    assert not all(torch.equal(one, other) for one, other in zip(plain, gradients(), strict=True))


def test_the_bank_shows_its_adapters_and_has_their_tensors_alone(banked):
    model, bank, _ = banked
    assert repr(bank).startswith("AdapterBank(3 adapters of rank 4 on 6 layers: model.layers.0.self_attn.q_proj, ")
    own = {name: parameter for name, parameter in model.named_parameters() if "lora_" in name}
    assert {name: id(one) for name, one in bank.named_parameters()} == {name: id(one) for name, one in own.items()}
    assert [id(one) for one in bank.parameters()] == [id(one) for one in own.values()]


def test_last_layers_names_only_those_layers(banked):
    _, bank, _ = banked
    assert len(list(bank.parameters(1))) == len(list(bank.parameters())) // 2


def test_wrong_targets_and_wrong_shapes_are_named(make_llama):
    with pytest.raises(ModelError, match="w_pack"):
        install(make_llama(), ("q_proj", "w_pack"), 1, 4, 8.0)
    bank = install(make_llama(), ("q_proj",), 1, 4, 8.0)
    with pytest.raises(ModelError, match="missing"):
        bank.load(0, {})
    layer = next(iter(bank.layers))
    with pytest.raises(ModelError, match="shape"):
        bank.load(0, {peft_key(name, matrix): torch.zeros(2, 2) for name in bank.layers for matrix in ("lora_A", "lora_B")} | {layer: None})
