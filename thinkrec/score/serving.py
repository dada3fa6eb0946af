"""The recommender that holds every adapter: slots 0 .. E-1 the experts, slot E the global one."""

from __future__ import annotations

import torch

from thinkrec.artefacts.adapters import ADAPTER_FOLDER, PROJECTOR_FILE, expert_folder
from thinkrec.config.run import Config
from thinkrec.model.build import build, load_adapter, load_projector
from thinkrec.model.recommender import Recommender
from thinkrec.model.spread import spread
from thinkrec.prompt.catalogue import ArtefactPaths, PromptData


def serving_model(config: Config, places: ArtefactPaths, tables: PromptData, num_experts: int) -> Recommender:
    """The recommender with all experts and the global adapter in one bank, ready to score."""
    recommender = build(config, places, tables.template.verdict_ids, tables.item_vectors, num_adapters=num_experts + 1)
    for expert in range(num_experts):
        load_adapter(recommender, expert_folder(places.path("experts"), expert), expert)
    load_adapter(recommender, places.path("global", ADAPTER_FOLDER), num_experts)
    load_projector(recommender, places.path("projector", PROJECTOR_FILE))
    return ready_to_score(recommender, config)


def ready_to_score(recommender: Recommender, config: Config) -> Recommender:
    """The recommender on the devices that score, as it is when nothing is trained."""
    return spread(recommender, _devices(config)).eval()


def _devices(config: Config) -> list[str]:
    """GPUs that this process sees, as many as a scorer takes; in a replica of a server all that Ray gave it."""
    seen = torch.cuda.device_count() if config.train.use_gpu else 0
    return [f"cuda:{number}" for number in range(min(seen, config.train.gpus_per_scorer or seen))] or ["cpu"]
