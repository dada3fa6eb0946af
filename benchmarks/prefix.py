"""Is scoring many targets on one history faster when they share it than with a row a target?

Both arms make their batch of the same rows and score it by the same recommender with mixed gates and the same two rows of the head: `rows`
has a padded line for each target, as a run trains; `shared` one sequence for each user, as a run scores. Scores are compared before any
time is taken. Arms take turns in one process on one thread; each counts by the best of several rounds, in process time.

    python benchmarks/prefix.py            print the ratios as JSON
    python benchmarks/prefix.py --store    and keep them in benchmarks/baselines/prefix.json
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from _baseline import show
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from thinkrec.model.adapter_bank import install
from thinkrec.model.batch import Batch, Instance, collate
from thinkrec.model.prefix_batch import share_prefixes
from thinkrec.model.recommender import Recommender
from thinkrec.prompt.template import Prompt

VOCAB, HIDDEN, NUM_ADAPTERS = 8000, 256, 3
NUM_ROUNDS = 5
TOLERANCE = 1e-5  # of the largest score


@dataclass(frozen=True)
class Shape:
    """Tokens of a history and of a target, targets a user and users; `goal` is the ratio that sharing must reach."""

    prefix: int
    suffix: int
    targets: int
    users: int
    goal: float


SHAPES = (Shape(256, 16, 100, 1, 7.0), Shape(256, 16, 16, 2, 7.0), Shape(128, 16, 8, 4, 3.5), Shape(256, 16, 1, 16, 0.95))  # 100: a list


def recommender() -> Recommender:
    """A random Llama of four layers with adapters that matter."""
    torch.manual_seed(0)
    settings = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=HIDDEN,
        intermediate_size=704,
        num_hidden_layers=4,
        num_attention_heads=8,
        max_position_embeddings=2048,
    )
    llm = LlamaForCausalLM(settings)
    bank = install(llm, ["q_proj", "v_proj"], NUM_ADAPTERS, rank=8, alpha=16.0)
    for layer in bank.layers.values():
        torch.nn.init.normal_(layer.lora_B, std=0.02)
    return Recommender(llm, bank, (7, 9)).eval()


def rows_of(shape: Shape) -> tuple[list[Instance], Tensor]:
    """Random prompts, user by user, and a mixture of adapters a user."""
    chance = torch.Generator().manual_seed(1)
    rows = []
    for user in range(shape.users):
        history = torch.randint(VOCAB, (shape.prefix,), generator=chance).tolist()
        for _ in range(shape.targets):
            target = torch.randint(VOCAB, (shape.suffix,), generator=chance).tolist()
            rows.append(Instance(Prompt(history, target), [0], 0, user, 0.0, 0.0, 0.0))
    gates = torch.rand(shape.users, NUM_ADAPTERS, generator=chance).softmax(1)
    return rows, gates.repeat_interleave(shape.targets, 0)


def compare(model: Recommender, shape: Shape) -> dict[str, Any]:
    """Process seconds of one scoring in each arm, and their ratio."""
    rows, gates = rows_of(shape)
    arms: dict[str, Callable[[], Batch]] = {
        "rows": lambda: collate(rows, gates, None, None, 0, text_loss=False),
        "shared": lambda: share_prefixes(rows, gates, None, None, text_loss=False),
    }

    def score(make: Callable[[], Batch]) -> Tensor:
        batch = make()
        return model.scores(model.hidden(batch), batch)

    one, other = (score(make) for make in arms.values())
    difference = float((one - other).abs().max() / one.abs().max())
    assert difference <= TOLERANCE, f"the arms differ by {difference}"
    best = dict.fromkeys(arms, float("inf"))
    for _ in range(NUM_ROUNDS):
        for name, make in arms.items():
            begun = time.process_time()
            score(make)
            best[name] = min(best[name], time.process_time() - begun)
    return {
        "shape": asdict(shape),
        "largest_relative_difference": float(f"{difference:.2g}"),
        "tokens": {name: make().num_tokens for name, make in arms.items()},
        **{f"{name}_ms": round(1000 * seconds, 1) for name, seconds in best.items()},
        "ratio": round(best["rows"] / best["shared"], 2),
    }


def main() -> None:
    """Print, and with --store keep, the figures of every shape."""
    torch.set_num_threads(1)
    model = recommender()
    with torch.inference_mode():
        shapes = [compare(model, shape) for shape in SHAPES]
    versions = {"torch": torch.__version__, "python": platform.python_version()}
    show(__file__, {"question": "scoring targets that share a history against a row a target", "shapes": shapes, "versions": versions})


if __name__ == "__main__":
    main()
