"""What vLLM can serve of a run and what it cannot, and how its server is started."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

from thinkrec.artefacts.handover import ADAPTERS_FOLDER, Handover
from thinkrec.config.generation import VllmSection
from thinkrec.config.run import Config
from thinkrec.errors import ConfigError
from thinkrec.generate.engines.vllm import arguments
from thinkrec.model.base import load_config

MAX_LORAS = 8  # adapters that answer in one batch, unless engine.vllm.max_loras says otherwise
RANKS = get_args(VllmSection.model_fields["max_lora_rank"].annotation)


def check_servable(config: Config, address: str, at: str) -> None:
    """Raise ConfigError for a run whose answers vLLM cannot give, and for a folder that it could not find."""
    rank, most = config.adapter.rank, config.engine.vllm.max_lora_rank
    if config.prompt.slots != "none":
        what = f"prompts of this run hold vectors (prompt.slots = {config.prompt.slots!r}), and vLLM is asked by token ids"
        raise ConfigError(what, "prompt.slots", 'serve it with thinkrec package and thinkrec serve, or train with prompt.slots = "none"')
    if config.evaluate.fusion != "exact":
        what = "the published arithmetic over matrices is not that of any one adapter"
        raise ConfigError(what, "evaluate.fusion", 'evaluate.fusion = "exact" scores by the sum of adapters, which can be baked into one')
    if rank > most:
        raise ConfigError(
            f"adapters of rank {rank} for a server of rank {most}", "engine.vllm.max_lora_rank", f"raise it to {rank} or more"
        )
    if "://" in address and not at:
        raise ConfigError("vLLM reads adapters from a folder of its own machine", address, "say where this will lie there: --at FOLDER")


def remarks(config: Config) -> list[str]:
    """What a client of vLLM has to know of this run, beside the adapters."""
    dtype, found = config.base.dtype, ["users whom the tables do not name are served by the adapter global"]
    if config.prior.kind != "none":
        found.append("the prior is not in vLLM's answers: the score of a user and an item is prior + model_weight * score")
    if config.prompt.answer == "after":
        found.append(
            "the model was taught to reason first: let it write up to Yes or No and read the score there; sample.parquet asks at once"
        )
    if config.train.loss.score == "yes":
        found.append("the score is the logit of Yes alone: vLLM has to be started with logprobs-mode raw_logits, as in vllm.yaml")
    if dtype != "float32":
        found.append(f"vLLM computes adapters in {dtype}, thinkrec in float32: scores differ by rounding")
    return found


def server_arguments(config: Config, base: Path, handover: Handover, root: str) -> dict[str, object]:
    """What `vllm serve --config` takes: options by their long names; `root` is where the adapters' folder lies."""
    settings, widest = config.engine.vllm, max(adapter.rank for adapter in handover.adapters)
    longest = min(config.prompt.max_tokens + config.prompt.max_answer_tokens, load_config(base).get_text_config().max_position_embeddings)
    max_loras = settings.max_loras or min(len(handover.adapters), MAX_LORAS)
    own = {
        "dtype": config.base.dtype,
        "max_model_len": longest,
        "max_loras": max_loras,
        "max_lora_rank": next(rank for rank in RANKS if rank >= widest),
    }
    told = {"model": handover.base} | arguments(settings.model_copy(update=own), on_cpu=False)
    told |= {"max_cpu_loras": max(len(handover.adapters), max_loras)} | ({"logprobs_mode": "raw_logits"} if handover.score == "yes" else {})
    modules = [json.dumps({"name": one.name, "path": f"{root}/{ADAPTERS_FOLDER}/{one.name}"}) for one in handover.adapters]
    return {name.replace("_", "-"): value for name, value in told.items()} | {"lora-modules": modules}
