"""Is scoring many targets on one history, or learning from them, faster when they share it than with a row a target?

Both arms make their batch of the same rows, and the same recommender scores it with mixed gates and the same two rows of the head, or takes
loss and gradients of it with the verdict and the answer's tokens: `rows` has a padded line for each target, `shared` one sequence for each
user, as a run has. Scores and gradients are compared before any time is taken. Arms take turns in one process on one thread; each counts by
the best of several rounds, in process time.

What is gained where the histories are kept from an earlier batch, as a server keeps them, is told by `kept`: scoring of new targets against
`shared`, which reads the histories again.

And what do the workers of a step compute beside tokens? `step` deals 64 rows, some with a trace, to eight workers, and sets the tokens
against the places that all would compute if each waited for the longest micro batch.

    python benchmarks/prefix.py            print the ratios as JSON
    python benchmarks/prefix.py --store    and keep them in benchmarks/baselines/prefix.json
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from _baseline import best_seconds, show
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from thinkrec.model.adapter_bank import install
from thinkrec.model.batch import Batch, Instance, collate
from thinkrec.model.kept_prefixes import KeptPrefixes
from thinkrec.model.prefix_batch import share_prefixes
from thinkrec.model.recommender import Recommender
from thinkrec.prompt.template import Prompt
from thinkrec.train.micro_batches import deal

VOCAB, HIDDEN, NUM_ADAPTERS = 8000, 256, 3
NUM_ROUNDS = 5
VERDICTS = (7, 9)  # token ids
NUM_ROWS, NUM_WORKERS, NUM_STEPS = 64, 8, 10  # of a step
TOLERANCE = 1e-5  # of the largest score


@dataclass(frozen=True)
class Shape:
    """Tokens of a history and of a target, targets a user and users; goals are the ratios that sharing must reach, None
    where nothing is learned so."""

    prefix: int
    suffix: int
    targets: int
    users: int
    scoring_goal: float
    training_goal: float | None


SHAPES = (
    Shape(256, 16, 100, 1, 7.0, None),  # a list of candidates
    Shape(256, 16, 16, 2, 7.0, 6.5),
    Shape(128, 16, 8, 4, 3.5, 3.5),
    Shape(256, 16, 1, 16, 0.95, 0.95),
)


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
    for parameter in bank.parameters():
        parameter.requires_grad_(True)
    return Recommender(llm, bank, VERDICTS).eval()


def rows_of(shape: Shape) -> tuple[list[Instance], Tensor]:
    """Random prompts and labels, user by user, and a mixture of adapters a user."""
    chance = torch.Generator().manual_seed(1)
    rows = []
    for user in range(shape.users):
        history = torch.randint(VOCAB, (shape.prefix,), generator=chance).tolist()
        for at in range(shape.targets):
            target = torch.randint(VOCAB, (shape.suffix,), generator=chance).tolist()
            rows.append(Instance(Prompt(history, target), [VERDICTS[at % 2], 1], 0, user, float(at % 2), 0.9, 0.1))
    gates = torch.rand(shape.users, NUM_ADAPTERS, generator=chance).softmax(1)
    return rows, gates.repeat_interleave(shape.targets, 0)


def compare(model: Recommender, shape: Shape) -> dict[str, Any]:
    """Process seconds of one scoring and of one loss with its gradients in each arm, and their ratios."""
    rows, gates = rows_of(shape)
    arms: dict[str, Callable[[bool], Batch]] = {
        "rows": lambda text_loss: collate(rows, gates, None, None, 0, text_loss),
        "shared": lambda text_loss: share_prefixes(rows, gates, None, None, text_loss),
    }
    trained = list(model.bank.parameters())

    @torch.inference_mode()
    def score(make: Callable[[bool], Batch]) -> Tensor:
        batch = make(False)
        return model.scores(model.hidden(batch), batch)

    def learn(make: Callable[[bool], Batch]) -> Tensor:
        loss, _ = model(make(True))
        return torch.cat([one.flatten() for one in torch.autograd.grad(loss, trained)])

    found = {
        "shape": asdict(shape),
        "tokens": {name: make(False).num_tokens for name, make in arms.items()},
    }
    for what, work in (("scoring", score), *([("training", learn)] if shape.training_goal else [])):
        one, other = (work(make) for make in arms.values())
        difference = float((one - other).abs().max() / one.abs().max())
        assert difference <= TOLERANCE, f"{what}: the arms differ by {difference}"
        best = dict.fromkeys(arms, float("inf"))
        for _ in range(NUM_ROUNDS):
            for name, make in arms.items():
                begun = time.process_time()
                work(make)
                best[name] = min(best[name], time.process_time() - begun)
        found[what] = {
            "largest_relative_difference": float(f"{difference:.2g}"),
            **{f"{name}_ms": round(1000 * seconds, 1) for name, seconds in best.items()},
            "ratio": round(best["rows"] / best["shared"], 2),
        }
    return found


def compare_kept(model: Recommender, shape: Shape) -> dict[str, Any]:
    """Process seconds of one scoring where histories are read and where they were kept from a batch before, and their ratio."""
    rows, gates = rows_of(shape)
    kept = KeptPrefixes(2**30, 3600.0)
    arms: dict[str, Callable[[], Batch]] = {
        "shared": lambda: share_prefixes(rows, gates, None, None, text_loss=False),
        "kept": lambda: share_prefixes(rows, gates, None, None, text_loss=False, kept=kept),
    }

    @torch.inference_mode()
    def score(make: Callable[[], Batch]) -> Tensor:
        batch = make()
        found = model.scores(model.hidden(batch), batch)
        if batch.tree:
            kept.keep(batch.tree.states.values())
        return found

    one, *others = (score(arms[name]) for name in ("shared", "kept", "kept"))
    difference = max(float((one - other).abs().max() / one.abs().max()) for other in others)
    assert difference <= TOLERANCE, f"the arms differ by {difference}"
    best = best_seconds({name: partial(score, make) for name, make in arms.items()}, NUM_ROUNDS)
    return {
        "shape": {name: value for name, value in asdict(shape).items() if not name.endswith("goal")},
        "mib_of_a_history": round(kept.num_bytes / 2**20 / shape.users, 2),
        **{f"{name}_ms": round(1000 * seconds, 1) for name, seconds in best.items()},
        "ratio": round(best["shared"] / best["kept"], 2),
    }


def step(trace_share: float) -> dict[str, float]:
    """Tokens over places computed, in one process and where eight workers wait for the slowest; the mean of several steps."""
    chance, found = np.random.default_rng(0), []
    for _ in range(NUM_STEPS):
        lengths = chance.integers(60, 320, NUM_ROWS) + (chance.random(NUM_ROWS) < trace_share) * chance.integers(40, 200, NUM_ROWS)
        rows = [Instance(Prompt([at] * int(length), [1]), [7, 1], 0, at, 0.0, 0.0, 0.0) for at, length in enumerate(lengths)]
        only = torch.zeros(NUM_ROWS, dtype=torch.int64)
        dealt = deal(rows, only, 4096, NUM_WORKERS)
        places = np.array(
            [[share_prefixes([rows[at] for at in part], only[part], None, None).num_tokens for part in parts] for parts in dealt]
        )
        tokens = sum(row.num_tokens for row in rows)
        found.append((tokens / places.sum(), tokens / (NUM_WORKERS * places.max(0).sum())))
    alone, waiting = np.mean(found, axis=0)
    return {"trace_share": trace_share, "tokens_of_places": round(alone, 3), "with_the_slowest_worker": round(waiting, 3)}


def main() -> None:
    """Print, and with --store keep, the figures of every shape."""
    torch.set_num_threads(1)
    model = recommender()
    found = {
        "question": "targets that share a history against a row a target",
        "shapes": [compare(model, shape) for shape in SHAPES],
        "kept": [compare_kept(model, shape) for shape in SHAPES],
        "steps": [step(0.0), step(0.2)],
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
    }
    show(__file__, found)


if __name__ == "__main__":
    main()
