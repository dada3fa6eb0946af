"""What it costs that a user is served by one baked adapter and not by his own mixture: both score the same pairs of user and item.

Asked are the users whose gates moved most, one an adapter. Baked adapters are read back from their files and heard one at a time, as an
engine hears them that knows nothing of mixtures.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor
from torch.nn import functional as F

from thinkrec.artefacts.handover import SAMPLE
from thinkrec.config.run import Config
from thinkrec.data.interactions import Interactions
from thinkrec.generate.engines.peft_folder import PEFT_FILES, rank_of
from thinkrec.model.build import build
from thinkrec.model.peft_files import read_adapter
from thinkrec.prompt.catalogue import ArtefactPaths
from thinkrec.prompt.template import Prompt
from thinkrec.recommend.histories import of_users
from thinkrec.recommend.ranker import Questions, Ranker
from thinkrec.score.scorer import NOTHING, Scorer
from thinkrec.score.serving import ready_to_score

NUM_USERS, NUM_ITEMS = 64, 3  # each user is asked about each item
Floats = NDArray[np.float32]


def sample_scores(config: Config, places: ArtefactPaths, users: Sequence[str], adapters: Sequence[Path]) -> pa.Table:
    """SAMPLE of these users, each with the folder of the adapter that serves him; verdicts are asked for at once, as by the canary."""
    questions, prompts, exact = _exact(config, places, users)
    owners = [user for user, items in enumerate(questions.candidates) for _ in items]
    widest = max(map(rank_of, adapters))
    wide = config.adapter.model_copy(update={"rank": widest, "alpha": float(widest)})
    model = build(config.model_copy(update={"adapter": wide}), places, questions.tables.template.verdict_ids, None)
    scorer = Scorer(config, ready_to_score(model, config), questions.tables)
    score = np.empty(len(prompts), np.float32)
    for folder in dict.fromkeys(adapters):
        model.bank.load(0, _as_wide(folder, widest))
        own = [at for at, owner in enumerate(owners) if adapters[owner] == folder]
        alone, asked = np.ones((len(own), 1), np.float32), [prompts[at] for at in own]
        score[own] = scorer.scores(asked, [owners[at] for at in own], alone, [NOTHING] * len(own))
    data = questions.tables.interactions
    columns = {
        "user_id": [users[owner] for owner in owners],
        "item_id": [data.item_ids[item] for items in questions.candidates for item in items],
        "adapter": [adapters[owner].name for owner in owners],
        "prompt": [prompt.ids for prompt in prompts],
        "exact": exact,
        "score": score,
        "p_like": expit(score),
    }
    return pa.table(columns, schema=SAMPLE)


def _exact(config: Config, places: ArtefactPaths, users: Sequence[str]) -> tuple[Questions, list[Prompt], Floats]:
    """Items spread over the catalogue are asked of each user: the questions, their prompts and scores by the user's own gates.

    The model goes with this call: two bases at a time may be more than there is room for.
    """
    ranker = Ranker(config, places)
    log = of_users(Interactions.load(places.path("ingest"), users=set(users)), users)
    items = np.unique(np.linspace(0, len(ranker.items.item_ids) - 1, NUM_ITEMS).astype(np.int64))
    questions = ranker.questions(log, [items] * len(users))
    prompts = [prompt for user in range(len(users)) for prompt in questions.prompts(user)]
    owners = np.repeat(np.arange(len(users)), len(items))
    scores = ranker.scorer(questions).scores(prompts, owners.tolist(), questions.gates[owners], [NOTHING] * len(prompts))
    return questions, prompts, scores


def _as_wide(folder: Path, rank: int) -> dict[str, Tensor]:
    """An adapter as one of scale 1 and this rank: what it lacks is filled up with zeros."""
    settings = json.loads((folder / PEFT_FILES[0]).read_text(encoding="utf-8"))
    missing, scale = rank - settings["r"], settings["lora_alpha"] / settings["r"]
    return {
        name: F.pad(tensor, (0, 0, 0, missing)) if ".lora_A." in name else F.pad(tensor * scale, (0, missing))
        for name, tensor in read_adapter(folder).items()
    }


def largest_gap(sample: pa.Table, scale: Callable[[Floats], Floats]) -> float:
    """By how much scores by baked adapters differ from exact ones at most, on a scale."""
    return float(np.abs(scale(sample["score"].to_numpy()) - scale(sample["exact"].to_numpy())).max())
