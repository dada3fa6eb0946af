"""How many users a second get a list of 100 candidates, and what is gained by sharing a history and by keeping all adapters in one bank?

Three arms score the same candidates of the same users of a small run of the planted world, prompts included, once they are shown to agree:

* `shared`: a user's candidates on one copy of his history, mixtures of many users in one batch, as `thinkrec recommend` does;
* `rows`: a row a candidate, the same mixtures;
* `merged`: for each user his mixture is added into the weights of the base, which then scores a row a candidate, and is taken out again.

Arms take turns in one process on one thread; each counts by the best of several rounds, in process time. Merging costs rank times the
weights, and a hundred candidates two multiplications a weight and token, so `merged` cannot be far slower than `rows`: 50 times is the goal
against merging for each pair, which `merged_pair` does for some.

Beside it: how many of the 100 nearest items the inverted file finds, and whether a seen item is in any list of the run.

    OMP_NUM_THREADS=1 python benchmarks/recommend.py            print the figures as JSON
    OMP_NUM_THREADS=1 python benchmarks/recommend.py --store    and keep them in benchmarks/baselines/recommend.json
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import faiss
import numpy as np
import polars as pl
import torch
from _baseline import SMALL_RUN, best_seconds, show
from numpy.typing import NDArray

from thinkrec.artefacts.ingest import scan_interactions
from thinkrec.artefacts.recommendations import scan_lists
from thinkrec.config import run as run_file
from thinkrec.config.recommend import RecommendSection
from thinkrec.config.run import Config
from thinkrec.data.interactions import Interactions
from thinkrec.distributed.session import ray_session
from thinkrec.model.batch import Instance, collate
from thinkrec.pipeline.execute import run_stages
from thinkrec.prompt.catalogue import ArtefactPaths
from thinkrec.prompt.template import Prompt
from thinkrec.recommend.histories import of_users
from thinkrec.recommend.item_index import ItemIndex
from thinkrec.recommend.lists import Lists
from thinkrec.recommend.ranker import Questions, Ranker
from thinkrec.recommend.request import Request
from thinkrec.score.scorer import Scorer
from thinkrec.store.artefacts import Artefact

Floats = NDArray[np.float32]
GOALS = {"rows": 7.0, "merged_pair": 50.0, "recall": 0.98}
NUM_CANDIDATES, NUM_USERS, NUM_ROUNDS = 100, 6, 3
NUM_PAIRS = 20  # of the first user, each merged for by itself
TOLERANCE = 1e-4  # of the largest score
NUM_ITEMS, NUM_QUERIES, DIM = 120_000, 500, 64  # of the search


class Arms:
    """The users' questions, and every way to score them; each arm gives (users, candidates) float32."""

    def __init__(self, ranker: Ranker, log: Interactions) -> None:
        chance = np.random.default_rng(0)
        self.items = [chance.permutation(len(log.item_ids))[:NUM_CANDIDATES] for _ in log.user_ids]
        self.questions: Questions = ranker.questions(log, self.items)
        self.scorer: Scorer = ranker.scorer(self.questions)
        self.users = range(len(log.user_ids))

    def shared(self) -> Floats:
        """As the ranker asks."""
        prompts = [prompt for user in self.users for prompt in self.questions.prompts(user)]
        owners = np.repeat(self.users, NUM_CANDIDATES).tolist()
        return self.scorer.scores(prompts, owners, self.questions.gates[owners]).reshape(-1, NUM_CANDIDATES)

    def rows(self) -> Floats:
        """Batches of rows under the same bound of tokens."""
        return np.stack(
            [self._plain(user, self.questions.prompts(user), torch.from_numpy(self.questions.gates[user])) for user in self.users]
        )

    def merged(self) -> Floats:
        """The base with the user's mixture in its weights."""
        found = []
        for user in self.users:
            with self._merged(user):
                found.append(self._plain(user, self.questions.prompts(user), None))
        return np.stack(found)

    def merged_pair(self) -> Floats:
        """The same for each pair alone."""
        found = []
        for prompt in self.questions.prompts(0, range(NUM_PAIRS)):
            with self._merged(0):
                found.append(self._plain(0, [prompt], None))
        return np.stack(found).T

    @torch.inference_mode()
    def _plain(self, user: int, prompts: list[Prompt], gates: torch.Tensor | None) -> Floats:
        recommender, tables, end = self.scorer.recommender, self.scorer.tables, self.scorer.tables.template.tokenizer.pad_token_id
        rows = [Instance(prompt, [end], 0, user, 0.0, 0.0, 0.0) for prompt in prompts]
        size = max(1, self.scorer.config.evaluate.batch_tokens // max(row.num_tokens for row in rows))
        scores = []
        for first in range(0, len(rows), size):
            some = rows[first : first + size]
            mixture = torch.zeros(recommender.bank.num_adapters) if gates is None else gates
            batch = collate(some, mixture.expand(len(some), -1), tables.item_vectors, tables.user_vectors, end, text_loss=False)
            batch = replace(batch, gates=None) if gates is None else batch
            scores.append(recommender.scores(recommender.hidden(batch), batch).numpy())
        return np.concatenate(scores)

    @contextmanager
    def _merged(self, user: int) -> Iterator[None]:
        gates, layers = torch.from_numpy(self.questions.gates[user]), self.scorer.recommender.bank.layers.values()
        before = [layer.base.weight.data for layer in layers]
        with torch.inference_mode():
            for layer in layers:
                update = torch.einsum("k,kor,kri->oi", gates * layer.scale, layer.lora_B, layer.lora_A)
                layer.base.weight.data = layer.base.weight.data + update
        yield
        for layer, weight in zip(layers, before, strict=True):
            layer.base.weight.data = weight


def speed(ranker: Ranker) -> dict[str, Any]:
    """Users a second of every arm, and how many times as fast sharing is."""
    log = ranker.items
    whole = Interactions.load(ranker.places.path("ingest"))
    longest = np.argsort(-np.diff(whole.offsets), kind="stable")[:NUM_USERS]
    arms = Arms(ranker, of_users(whole, sorted(whole.user_ids[user] for user in longest)))
    shared = arms.shared()
    largest = float(np.abs(shared).max())
    for name, found in (("rows", arms.rows()), ("merged", arms.merged()), ("merged_pair", arms.merged_pair())):
        difference = float(np.abs(found - shared[: len(found), : found.shape[1]]).max()) / largest
        assert difference <= TOLERANCE, f"{name} differs by {difference}"
    seconds = best_seconds({"shared": arms.shared, "rows": arms.rows, "merged": arms.merged, "merged_pair": arms.merged_pair}, NUM_ROUNDS)
    users = dict.fromkeys(seconds, NUM_USERS) | {"merged_pair": NUM_PAIRS / NUM_CANDIDATES}
    a_user = {name: seconds[name] / users[name] for name in seconds}
    (prompt,) = arms.questions.prompts(0, [0])
    return {
        "num_items": len(log.item_ids),
        "tokens_of_prompt": len(prompt.ids),
        "tokens_of_history": len(prompt.prefix),
        **{f"{name}_users_per_s": round(1 / value, 2) for name, value in a_user.items()},
        **{f"shared_to_{name}": round(value / a_user["shared"], 2) for name, value in a_user.items() if name != "shared"},
    }


def search() -> dict[str, float]:
    """Recall of the inverted file's first 100 against the exact search, and how many times as fast it is, on clustered vectors."""
    chance = np.random.default_rng(0)
    centres = chance.normal(size=(300, DIM))
    items, queries = (
        (centres[chance.integers(0, len(centres), size)] + 0.5 * chance.normal(size=(size, DIM))).astype(np.float32)
        for size in (NUM_ITEMS, NUM_QUERIES)
    )
    numbers, limit = np.arange(NUM_ITEMS), RecommendSection().exact_items
    flat, inverted = ItemIndex(numbers, items, NUM_ITEMS), ItemIndex(numbers, items, limit)
    exact, found = (index.search(queries, NUM_CANDIDATES)[0] for index in (flat, inverted))
    recall = np.mean([len(np.intersect1d(one, other)) / NUM_CANDIDATES for one, other in zip(found, exact, strict=True)])
    seconds = best_seconds(
        {name: lambda index=index: index.search(queries, NUM_CANDIDATES) for name, index in (("flat", flat), ("inverted", inverted))},
        NUM_ROUNDS,
    )
    return {"num_items": NUM_ITEMS, "recall": round(float(recall), 4), "flat_to_inverted": round(seconds["flat"] / seconds["inverted"], 2)}


def seen_in_lists(config: Config, artefacts: Mapping[str, Artefact]) -> dict[str, int]:
    """Over all users of the run: rows of their lists, and those among them whose item the user had met."""
    lists = Lists.plan(config, artefacts, Request())
    lists.make(lambda event: None, lambda config: nullcontext())
    rows = pl.concat(scan_lists(lists.out, lists.buckets))
    met = scan_interactions(artefacts["ingest"].path()).select("user_id", "item_id").collect()
    return {
        "num_users": rows["user_id"].n_unique(),
        "num_rows": rows.height,
        "num_seen": rows.join(met, on=["user_id", "item_id"], how="semi").height,
    }


def main() -> None:
    """Print, and with --store keep, the figures."""
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        config = run_file.parse({**SMALL_RUN, "run": {"dir": folder}})
        with ray_session(config):
            artefacts = run_stages(config, lambda event: None)
            lists = seen_in_lists(config, artefacts)
        assert lists["num_seen"] == 0, lists
        found = speed(Ranker(config, ArtefactPaths({name: artefact.uri for name, artefact in artefacts.items()})))
    load = round(os.getloadavg()[0], 1)
    question = "users a second at 100 candidates, of shared histories against a row a candidate and against merged weights"
    show(__file__, {"question": question, "goals": GOALS, "speed": found, "search": search(), "lists": lists, "load_average": load})


if __name__ == "__main__":
    main()
