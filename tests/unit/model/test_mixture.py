"""A baked mixture: plain PEFT says by one adapter what the bank says by gates."""

from __future__ import annotations

import torch
from peft import PeftModel

from thinkrec.config.model import AdapterSection
from thinkrec.model.adapter_bank import install
from thinkrec.model.mixture import mixed
from thinkrec.model.peft_files import peft_tensors, write_adapter

SETTINGS = AdapterSection(rank=3, alpha=8.0, target_modules=("q_proj", "v_proj", "down_proj"))
PROBE = torch.arange(22).reshape(2, 11)
GATES = torch.tensor([0.25, 0.0, 0.75])


def test_plain_peft_says_by_one_adapter_what_the_bank_says_by_gates(make_llama, tmp_path):
    model = make_llama()
    bank = install(model, SETTINGS.target_modules, 3, SETTINGS.rank, SETTINGS.alpha)
    for layer in bank.layers.values():
        layer.lora_B.data.normal_(0, 0.3, generator=torch.Generator().manual_seed(1))
    adapters = [peft_tensors(bank, dict(model.named_parameters()), slot) for slot in (0, 2)]
    weights = [gate * SETTINGS.alpha / SETTINGS.rank for gate in (0.25, 0.75)]
    write_adapter(tmp_path, mixed(adapters, weights), SETTINGS.model_copy(update={"rank": 6, "alpha": 6.0}), "base")
    with torch.no_grad():
        found = PeftModel.from_pretrained(make_llama(), str(tmp_path)).eval()(input_ids=PROBE).logits
        fused = []
        for gates in (GATES, GATES.flip(0), torch.tensor([0.5, 0.0, 0.5])):
            with bank.gated(gates.expand(len(PROBE), 3)):
                fused.append(model(input_ids=PROBE).logits)
    assert (found - fused[0]).abs().max() <= 1e-5
    assert min((found - other).abs().max() for other in fused[1:]) > 1e-2
