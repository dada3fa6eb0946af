"""The shape of a base model, from its config.json or the nano section: parameters and FLOPs without loading it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from thinkrec.config.model import NanoSection
from thinkrec.errors import ModelError
from thinkrec.store.address import read_json


@dataclass(frozen=True)
class Shape:
    """A dense Llama-like decoder (Llama, Mistral, Qwen): gated MLP, grouped heads, two norms a layer. Biases are left out."""

    hidden: int
    intermediate: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab: int
    tied: bool

    @classmethod
    def of_folder(cls, folder: Path | str) -> Shape:
        """Read config.json; raises ModelError for a model that is not of this kind."""
        found = read_json(f"{folder}/config.json")
        if found is None:
            raise ModelError("the base has no config.json", str(folder), "name its folder as base.path; to plan, plan.base_shape will do")
        missing = [name for name in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads") if name not in found]
        routed = [name for name in ("num_experts", "num_local_experts", "n_routed_experts") if found.get(name)]
        if missing or routed:
            what = f"has no {', '.join(missing)}" if missing else f"routes tokens between experts of its own ({routed[0]})"
            raise ModelError(f"the base {what}", f"{folder}/config.json", "plan knows dense Llama-like models; run does not need it")
        heads = found["num_attention_heads"]
        return cls(
            found["hidden_size"],
            found["intermediate_size"],
            found["num_hidden_layers"],
            heads,
            found.get("num_key_value_heads") or heads,
            found.get("head_dim") or found["hidden_size"] // heads,
            found["vocab_size"],
            bool(found.get("tie_word_embeddings", False)),
        )

    @classmethod
    def of_nano(cls, settings: NanoSection, num_tokens: int) -> Shape:
        """What nano/model.py builds for a tokenizer of `num_tokens`."""
        heads = settings.hidden_size // 32
        return cls(settings.hidden_size, settings.hidden_size * 3, settings.num_layers, heads, heads, 32, num_tokens, False)

    @property
    def attention(self) -> int:
        """Numbers of one query row."""
        return self.num_heads * self.head_dim

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """(d_in, d_out) of the linear layers of one transformer layer, by the name `adapter.target_modules` uses."""
        keys = self.num_kv_heads * self.head_dim
        return {
            "q_proj": (self.hidden, self.attention),
            "k_proj": (self.hidden, keys),
            "v_proj": (self.hidden, keys),
            "o_proj": (self.attention, self.hidden),
            "gate_proj": (self.hidden, self.intermediate),
            "up_proj": (self.hidden, self.intermediate),
            "down_proj": (self.intermediate, self.hidden),
        }

    @property
    def layer_params(self) -> int:
        """Parameters of one layer that meet every token, norms left out."""
        return sum(d_in * d_out for d_in, d_out in self.linears.values())

    @property
    def num_params(self) -> int:
        tables = self.vocab * self.hidden * (1 if self.tied else 2)
        return tables + self.num_layers * (self.layer_params + 2 * self.hidden) + self.hidden

    def adapter_params(self, targets: Collection[str], rank: int, num_layers: int = 0) -> int:
        """Parameters of one LoRA adapter on the last `num_layers` layers, 0 = all; raises ModelError for an unknown target."""
        unknown = sorted(set(targets) - set(self.linears))
        if unknown:
            raise ModelError(f"plan does not know the layer {unknown[0]!r}", "adapter.target_modules", f"known: {', '.join(self.linears)}")
        return (num_layers or self.num_layers) * sum(rank * sum(self.linears[name]) for name in set(targets))

    def forward_flops(self, length: float, num_layers: int = 0) -> float:
        """FLOPs of one token in a causal row of `length` tokens through `num_layers` layers, 0 = all; the head is left out."""
        return (num_layers or self.num_layers) * (2 * self.layer_params + 2 * length * self.attention)


# By the numbers of their published config.json, for plan.base_shape.
NAMED: Mapping[str, Shape] = {
    "llama3_8b": Shape(4096, 14336, 32, 32, 8, 128, 128256, tied=False),  # Llama 3 and 3.1
    "llama3_70b": Shape(8192, 28672, 80, 64, 8, 128, 128256, tied=False),
    "llama3_2_1b": Shape(2048, 8192, 16, 32, 8, 64, 128256, tied=True),
    "llama3_2_3b": Shape(3072, 8192, 28, 24, 8, 128, 128256, tied=True),
    "qwen2_5_7b": Shape(3584, 18944, 28, 28, 4, 128, 152064, tied=False),
    "qwen3_8b": Shape(4096, 12288, 36, 32, 8, 128, 151936, tied=False),
}
