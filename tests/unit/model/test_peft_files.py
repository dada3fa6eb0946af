"""Adapters on disk: plain PEFT says what the bank says, and a file that is empty, broken or idle does not pass the gate."""

from __future__ import annotations

import json

import pytest
import torch
from peft import PeftModel, get_peft_model_state_dict

from thinkrec.config.model import AdapterSection
from thinkrec.errors import ExportRefused, MissingFileError, ModelError
from thinkrec.model.adapter_bank import install
from thinkrec.model.peft_files import check_export, peft_shapes, peft_tensors, read_adapter, slot_weights, write_adapter

SETTINGS = AdapterSection(rank=4, alpha=8.0, target_modules=("q_proj", "v_proj", "down_proj"))
PROBE = torch.arange(22).reshape(2, 11)


@pytest.fixture
def banked(make_llama):
    """A llama with a bank of two unlike adapters."""
    model = make_llama()
    bank = install(model, SETTINGS.target_modules, 2, SETTINGS.rank, SETTINGS.alpha)
    generator = torch.Generator().manual_seed(1)
    for layer in bank.layers.values():
        layer.lora_B.data.normal_(0, 0.3, generator=generator)
    return model, bank


@pytest.fixture
def tensors(banked):
    model, bank = banked
    return peft_tensors(bank, dict(model.named_parameters()), slot=1)


@pytest.fixture
def base(make_llama, tmp_path):
    """The folder of the base, with a config and no weights."""
    make_llama().config.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def logits(make_llama):
    """logits(tensors): those of the base alone, and with these tensors in a bank as far as they fit into one."""
    model = make_llama()
    bank = install(model, SETTINGS.target_modules, 1, SETTINGS.rank, SETTINGS.alpha)

    def ask(tensors):
        own = peft_tensors(bank, dict(model.named_parameters()))
        bank.load(0, {name: tensors[name] if name in tensors and tensors[name].shape == one.shape else one for name, one in own.items()})
        with torch.no_grad():
            before = model(input_ids=PROBE).logits
            with bank.gated(torch.zeros(len(PROBE), dtype=torch.int64)):
                return before, model(input_ids=PROBE).logits

    return ask


@pytest.mark.parametrize("slot", [0, 1])
def test_plain_peft_says_what_the_bank_says(banked, make_llama, tmp_path, slot):
    model, bank = banked
    write_adapter(tmp_path, peft_tensors(bank, dict(model.named_parameters()), slot), SETTINGS, "base")
    loaded = PeftModel.from_pretrained(make_llama(), str(tmp_path)).eval()
    with torch.no_grad():
        found = loaded(input_ids=PROBE).logits
        both = []
        for gates in torch.eye(2):
            with bank.gated(gates.expand(len(PROBE), 2)):
                both.append(model(input_ids=PROBE).logits)
    assert (found - both[slot]).abs().max() <= 1e-5
    assert (found - both[1 - slot]).abs().max() > 1e-2


def test_what_was_written_goes_back_into_a_bank(banked, make_llama, tensors, tmp_path):
    write_adapter(tmp_path, tensors, SETTINGS, "base")
    fresh = install(make_llama(), SETTINGS.target_modules, 1, SETTINGS.rank, SETTINGS.alpha)
    fresh.load(0, read_adapter(tmp_path))
    for name, layer in banked[1].layers.items():
        assert torch.equal(fresh.layers[name].lora_A[0], layer.lora_A[1])
        assert torch.equal(fresh.layers[name].lora_B[0], layer.lora_B[1])


def test_the_config_is_pefts(tensors, tmp_path):
    write_adapter(tmp_path, tensors, SETTINGS, "/models/base")
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["peft_type"], config["task_type"], config["r"], config["lora_alpha"]) == ("LORA", "CAUSAL_LM", 4, 8)
    assert set(config["target_modules"]) == set(SETTINGS.target_modules)
    assert config["base_model_name_or_path"] == "/models/base"


def test_layers_that_were_not_trained_are_not_named(banked):
    model, bank = banked
    trained = {name: parameter for name, parameter in model.named_parameters() if "layers.1." in name}
    assert {name.split(".")[4] for name in peft_tensors(bank, trained)} == {"1"}


def test_names_with_anything_before_the_layer_are_found_and_weights_of_another_model_are_not(banked, tensors):
    model, bank = banked
    wrapped = {f"module.llm.{name}": parameter for name, parameter in model.named_parameters()}
    found = peft_tensors(bank, wrapped, slot=1)
    assert list(found) == list(tensors)
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    for weights, there in (({}, "nothing"), ({"model.norm.weight": torch.ones(4)}, "model.norm.weight")):
        with pytest.raises(ModelError, match=rf"none of the {len(weights)} weights .* {there} is there"):
            peft_tensors(bank, weights)
    with pytest.raises(ModelError, match=r"are both model\.layers\.0"):
        peft_tensors(bank, dict(model.named_parameters()) | wrapped)


def test_the_gate_lets_a_sound_adapter_pass(base, tensors, logits, tmp_path):
    write_adapter(tmp_path, tensors, SETTINGS, base)
    check_export(tmp_path, tensors, base, logits(tensors))


def test_peft_itself_names_and_shapes_the_tensors_without_a_weight(base, tensors, make_llama, tmp_path):
    write_adapter(tmp_path, tensors, SETTINGS, base)
    found = peft_shapes(tmp_path, base)
    loaded = get_peft_model_state_dict(PeftModel.from_pretrained(make_llama(), str(tmp_path)))
    assert found == {name: tensor.shape for name, tensor in loaded.items()} == {name: tensor.shape for name, tensor in tensors.items()}


def test_a_file_that_holds_other_numbers_than_were_trained_is_refused(base, tensors, logits, tmp_path):
    write_adapter(tmp_path, tensors, SETTINGS, base)
    trained = _one(tensors, "lora_A", lambda x: torch.nextafter(x, x + 1))  # by one bit each
    with pytest.raises(ExportRefused, match=r"lora_A.weight is not what was trained"):
        check_export(tmp_path, trained, base, logits(trained))


def _one(tensors, matrix, change):
    name = next(name for name in tensors if matrix in name)
    return tensors | {name: change(tensors[name])}


def _poisoned(tensor, value):
    poisoned = tensor.clone()
    poisoned[0, 0] = value
    return poisoned


REFUSED = {
    "no tensors": (lambda t: {}, "tensor names differ"),
    "empty tensors, as ZeRO-3 shows them": (lambda t: {name: torch.empty(0) for name in t}, r"has shape \(0,\)"),
    "wrong shape": (lambda t: _one(t, "lora_B", lambda x: x[:-1].contiguous()), "lora_B.weight has shape"),
    "missing name": (lambda t: dict(list(t.items())[1:]), "1 tensor names differ"),
    "unknown name": (lambda t: t | {"base_model.model.lm_head.lora_A.weight": torch.ones(4, 64)}, "1 tensor names differ"),
    "NaN": (lambda t: _one(t, "lora_A", lambda x: _poisoned(x, float("nan"))), "lora_A.weight is not finite"),
    "infinity": (lambda t: _one(t, "lora_B", lambda x: _poisoned(x, float("inf"))), "lora_B.weight is not finite"),
    "every B is zero": (lambda t: {n: x * 0 if "lora_B" in n else x for n, x in t.items()}, "every B is zero"),
    "logits do not move": (lambda t: {n: x * 0 if "lora_A" in n else x for n, x in t.items()}, "does not move the logits"),
    "logits overflow": (lambda t: {n: x * 0 + 3e38 for n, x in t.items()}, "logits are not finite"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_the_gate_refuses(base, tensors, logits, tmp_path, case):
    spoil, message = REFUSED[case]
    spoilt = spoil(tensors)
    write_adapter(tmp_path, spoilt, SETTINGS, base)
    with pytest.raises(ExportRefused, match=message):
        check_export(tmp_path, spoilt, base, logits(spoilt))


def test_another_rank_than_the_config_says_is_refused(base, tensors, logits, tmp_path):
    write_adapter(tmp_path, tensors, SETTINGS.model_copy(update={"rank": 5}), base)
    with pytest.raises(ExportRefused, match="does not have rank 5"):
        check_export(tmp_path, tensors, base, logits(tensors))


def test_a_folder_without_adapter_is_named(tmp_path):
    with pytest.raises(MissingFileError, match="no adapter in this folder"):
        read_adapter(tmp_path)


def test_a_slot_comes_back_from_its_peft_names(banked, tensors):
    """By the names that a recommender has for the parameters; a file may hold more layers than are trained."""
    model, bank = banked
    own = {f"llm.{name}": weight for name, weight in model.named_parameters() if "lora" in name and ".1." in name}
    assert own
    found = slot_weights(bank, own, tensors)
    assert found.keys() == own.keys()
    assert all(torch.equal(found[name], own[name][1:]) for name in own)
