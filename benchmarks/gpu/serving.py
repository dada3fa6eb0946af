"""Serving: a forward pass with all experts fused anew for each row beside the base alone, whole rows scored, and a few explained."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from gpu import device
from gpu.bench import Bench
from gpu.rows import FixedRows, batch_of
from gpu.sizes import NUM_FUSED
from thinkrec.score.scorer import Scorer


def fused(bench: Bench) -> dict[str, Any]:
    """The bank stays in float32 over the base in bfloat16, as a run serves it."""
    sizes, arm, config = bench.sizes, bench.sizes.arms[1], bench.config()
    gates = np.random.default_rng(0).dirichlet(np.ones(NUM_FUSED), max(arm.rows, sizes.num_scored)).astype(np.float32)
    with bench.recommender(NUM_FUSED) as recommender, torch.inference_mode():
        recommender.eval()
        rows = FixedRows(config, bench.tables, arm.places, range(arm.rows))
        batch = batch_of(rows, np.arange(arm.rows))
        batch.gates = torch.from_numpy(gates[: arm.rows])
        batch = batch.to(device.kind())

        def alone() -> None:
            recommender.llm.model(inputs_embeds=recommender.embed(batch), use_cache=False)

        alone_s = device.seconds(alone, sizes.budget_s / 2)
        fused_s = device.seconds(lambda: recommender.hidden(batch), sizes.budget_s / 2)
        speaker = Scorer(config, recommender, bench.tables)
        prompts = [bench.tables.prompt(at) for at in range(sizes.num_scored)]
        users = bench.tables.interactions.user[: sizes.num_scored].tolist()
        begun = time.perf_counter()
        scores = speaker.scores(prompts, users, gates)
        scored_s = time.perf_counter() - begun
        num = sizes.num_explained
        begun = time.perf_counter()
        said = speaker.speak(prompts[:num], users[:num], gates[:num])
        said_s = time.perf_counter() - begun
    return {
        "num_experts": NUM_FUSED,
        "rows_x_places": str(arm),
        "base_ms": round(1000 * alone_s, 2),
        "fused_ms": round(1000 * fused_s, 2),
        "ratio": round(fused_s / alone_s, 3),
        "scored_rows_per_s": round(len(scores) / scored_s, 2),
        "distinct_scores": len(set(scores.tolist())),
        "explanations_per_s": round(num / said_s, 3),
        "tokens_said": sum(len(speech.reasoning) for speech in said),
    }
