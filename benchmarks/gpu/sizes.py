"""How large everything is: at the shape of Llama-3-8B for a card of 80 GB, and tiny, to see on any CPU that every part runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from thinkrec.plan.model_shape import Shape

NUM_FUSED, NUM_PACKED = 32, 8  # experts


@dataclass(frozen=True)
class Arm:
    """Rows of so many places in one step; without checkpointing 4 x 4096 would keep 77 GB for the backward pass."""

    rows: int
    places: int
    checkpointing: bool = False

    def __str__(self) -> str:
        return f"{self.rows}x{self.places}"


@dataclass(frozen=True)
class Sizes:
    llama: dict[str, Any]  # of LlamaConfig
    arms: tuple[Arm, ...]
    matmul: int  # side of the matrices
    copy_bytes: int
    num_compared: int  # rows whose scores are
    packed: Arm  # of all experts that train side by side
    num_scored: int
    num_explained: int
    num_new_tokens: int
    num_points: int  # for FAISS
    dim: int
    num_centroids: int
    budget_s: float  # of a part's repetitions

    @property
    def shape(self) -> Shape:
        found, heads = self.llama, self.llama["num_attention_heads"]
        return Shape(
            found["hidden_size"],
            found["intermediate_size"],
            found["num_hidden_layers"],
            heads,
            found.get("num_key_value_heads", heads),
            found["hidden_size"] // heads,
            found["vocab_size"],
            tied=False,
        )


SIZES = {
    "llama3_8b": Sizes(
        llama={
            "vocab_size": 128_256,
            "hidden_size": 4096,
            "intermediate_size": 14_336,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "max_position_embeddings": 8192,
            "rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0},
        },
        arms=(Arm(8, 280), Arm(16, 280), Arm(32, 280), Arm(4, 4096, checkpointing=True)),
        matmul=8192,
        copy_bytes=4 * 2**30,
        num_compared=400,
        packed=Arm(16, 280),
        num_scored=256,
        num_explained=8,
        num_new_tokens=64,
        num_points=1_000_000,
        dim=64,
        num_centroids=64,
        budget_s=12.0,
    ),
    "tiny": Sizes(
        llama={
            "vocab_size": 1024,
            "hidden_size": 64,
            "intermediate_size": 192,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
        },
        arms=(Arm(2, 24), Arm(4, 24), Arm(8, 24), Arm(2, 48, checkpointing=True)),
        matmul=128,
        copy_bytes=2**20,
        num_compared=48,
        packed=Arm(8, 24),
        num_scored=16,
        num_explained=2,
        num_new_tokens=6,
        num_points=2000,
        dim=16,
        num_centroids=8,
        budget_s=0.2,
    ),
}
