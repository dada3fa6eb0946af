"""Is one packed job faster than the same experts one after another?

Every arm makes the same step for every expert: forward, backward, AdamW on its own rows. `packed` is the bank with one adapter a row;
`alone` is the same bank with one slot, expert after expert; `peft` is plain peft with `set_adapter` and one AdamW an adapter. All read the
loss at the same place of the same rows, and their weights are compared after two steps, before any time is taken. Arms take turns in one
process; each counts by the best of several rounds, in process time.

    python benchmarks/packed.py            print the ratios as JSON
    python benchmarks/packed.py --store    and keep them in benchmarks/baselines/packed.json
"""

from __future__ import annotations

import copy
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import peft
import torch
import transformers
from _baseline import show
from torch import Tensor
from torch.nn import functional as F

from thinkrec.model.adapter_bank import AdapterBank, install, peft_key
from thinkrec.train.deepspeed.slot_adamw import SlotAdamW

RANK, ALPHA, TARGETS, LR = 8, 16.0, ("q_proj", "v_proj"), 1e-3
NUM_ROUNDS = 5


@dataclass(frozen=True)
class Shape:
    """Rows and tokens of each expert's batch; `goal` is the ratio to peft that packing must reach."""

    name: str
    num_experts: int
    rows: int
    length: int
    hidden: int
    goal: float


SHAPES = (Shape("overhead rules", 16, 1, 32, 256, 2.5), Shape("compute rules", 8, 2, 128, 512, 0.97))


def base_of(shape: Shape) -> Any:
    """A random Llama of four layers."""
    torch.manual_seed(0)
    settings = transformers.LlamaConfig(
        vocab_size=512,
        hidden_size=shape.hidden,
        intermediate_size=2 * shape.hidden,
        num_hidden_layers=4,
        num_attention_heads=shape.hidden // 32,
    )
    return transformers.LlamaForCausalLM(settings).requires_grad_(False)


def loss_of(model: Any, ids: Tensor) -> Tensor:
    """Summed over experts, each expert's mean over its own rows; `ids` is (experts, rows, length)."""
    logits = model(input_ids=ids.flatten(0, 1), use_cache=False, logits_to_keep=1).logits[:, 0]
    return F.cross_entropy(logits, ids[..., 0].flatten()) * len(ids)


def starts(bank: AdapterBank) -> dict[str, Tensor]:
    """One random adapter by peft's names, far enough from zero for its A's to learn."""
    generator = torch.Generator().manual_seed(1)
    layers = [(peft_key(name, matrix), getattr(layer, matrix)) for name, layer in bank.layers.items() for matrix in ("lora_A", "lora_B")]
    return {key: torch.randn(parameter.shape[1:], generator=generator) * 0.05 for key, parameter in layers}


class Banked:
    """The bank with as many slots as experts, or with one; the optimizer sees one flat tensor, as it does under DeepSpeed."""

    def __init__(self, base: Any, num_slots: int) -> None:
        self.model = copy.deepcopy(base)
        self.bank = install(self.model, TARGETS, num_slots, RANK, ALPHA)
        for slot in range(num_slots):
            self.bank.load(slot, starts(self.bank))
        self.trained = list(self.bank.parameters())
        sizes = [parameter.numel() for parameter in self.trained]
        self.flat = torch.nn.Parameter(torch.cat([parameter.detach().flatten() for parameter in self.trained]))
        for parameter, part in zip(self.trained, self.flat.detach().split(sizes), strict=True):
            parameter.requires_grad_(True).data = part.view(parameter.shape)
        self.optimizer = SlotAdamW([self.flat], num_slots)
        self.optimizer.state[self.flat] = self.optimizer.fresh_state(self.flat)
        if num_slots > 1:
            shapes = [(num_slots, *[1] * (parameter.dim() - 1)) for parameter in self.trained]
            owners = [torch.arange(num_slots).view(shape).expand_as(one) for shape, one in zip(shapes, self.trained, strict=True)]
            self.optimizer.state[self.flat]["slot"] = torch.cat([owner.flatten() for owner in owners]).int()
        self.optimizer.rates = [LR] * num_slots

    def step(self, ids: Tensor) -> None:
        with self.bank.gated(torch.arange(len(ids)).repeat_interleave(ids.shape[1])):
            gradients = torch.autograd.grad(loss_of(self.model, ids), self.trained)
        self.flat.grad = torch.cat([gradient.flatten() for gradient in gradients])
        self.optimizer.step()

    def weights(self, slot: int) -> dict[str, Tensor]:
        layers = self.bank.layers.items()
        named = {peft_key(name, matrix): getattr(layer, matrix)[slot] for name, layer in layers for matrix in ("lora_A", "lora_B")}
        return {key: tensor.detach().clone() for key, tensor in named.items()}


class Plain:
    """peft as its users have it: every adapter in one model, made active in turn."""

    def __init__(self, base: Any, num_experts: int, start: dict[str, Tensor]) -> None:
        config = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=list(TARGETS), lora_dropout=0.0)
        self.model = peft.get_peft_model(copy.deepcopy(base), config, adapter_name="expert0")
        for number in range(1, num_experts):
            self.model.add_adapter(f"expert{number}", config)
        self.optimizers = []
        for number in range(num_experts):
            peft.set_peft_model_state_dict(self.model, start, adapter_name=f"expert{number}")
            named = [parameter for name, parameter in self.model.named_parameters() if f".expert{number}.weight" in name]
            self.optimizers.append(torch.optim.AdamW(named, lr=LR, weight_decay=0.0))

    def step(self, ids: Tensor) -> None:
        for number, rows in enumerate(ids):
            self.model.set_adapter(f"expert{number}")
            loss_of(self.model, rows[None]).backward()
            self.optimizers[number].step()
            self.optimizers[number].zero_grad()

    def weights(self, number: int) -> dict[str, Tensor]:
        found = peft.get_peft_model_state_dict(self.model, adapter_name=f"expert{number}")
        return {key: tensor.detach().clone() for key, tensor in found.items()}


def compare(shape: Shape) -> dict[str, Any]:
    """Process seconds of one step of all experts in each arm, and the ratios."""
    base = base_of(shape)
    packed = Banked(base, shape.num_experts)
    singles = [Banked(base, 1) for _ in range(shape.num_experts)]
    plain = Plain(base, shape.num_experts, starts(packed.bank))
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(0, 512, (shape.num_experts, shape.rows, shape.length), generator=generator)

    def alone(ids: Tensor) -> None:
        for single, rows in zip(singles, ids, strict=True):
            single.step(rows[None])

    arms: dict[str, Callable[[Tensor], None]] = {"packed": packed.step, "alone": alone, "peft": plain.step}
    for _ in range(2):
        for step in arms.values():
            step(ids)
    difference = 0.0
    for number, single in enumerate(singles):
        ours, theirs, peers = packed.weights(number), single.weights(0), plain.weights(number)
        for key in ours:
            for other in (theirs, peers):
                difference = max(difference, float((ours[key] - other[key]).norm() / other[key].norm()))
    assert difference <= 1e-5, f"the arms differ by {difference}"
    best = dict.fromkeys(arms, float("inf"))
    for _ in range(NUM_ROUNDS):
        for name, step in arms.items():
            begun = time.process_time()
            step(ids)
            best[name] = min(best[name], time.process_time() - begun)
    return {
        "shape": vars(shape),
        "largest_relative_difference": float(f"{difference:.2g}"),
        **{f"{name}_ms": round(1000 * seconds, 1) for name, seconds in best.items()},
        "ratio_to_alone": round(best["alone"] / best["packed"], 2),
        "ratio_to_peft": round(best["peft"] / best["packed"], 2),
    }


def main() -> None:
    """Print, and with --store keep, the figures of every shape."""
    torch.set_num_threads(1)
    versions = {"torch": torch.__version__, "peft": peft.__version__, "python": platform.python_version()}
    found = {"question": "packed experts against one after another", "shapes": [compare(shape) for shape in SHAPES], "versions": versions}
    show(__file__, found)


if __name__ == "__main__":
    main()
