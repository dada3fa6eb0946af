"""Scoring the test rows of one bucket of users: through the global adapter, hard routing and the fusion, each added to its prior.

One bank holds all experts and the global adapter; gates belong to rows, so one batch mixes users with different mixtures (D2, D3).
Rows go through the model as all prompts do, those with one history and mixture on one copy of it; but under the rolling policy each test
row of a user has a history of its own, and little is shared here.
With a prior a sample of valid rows is scored, too, by the variant that serves: they tell what the model's score weighs beside the prior.
Where the model thinks before its verdict, `direct` is the fusion asked for the verdict at once: what is lost is what thinking adds (D11).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from thinkrec.artefacts.ingest import TEST, VALID, read_num_buckets
from thinkrec.artefacts.prior import read_offsets
from thinkrec.artefacts.scores import SCORES, write_scores
from thinkrec.config.run import Config
from thinkrec.data.scatter import scatter
from thinkrec.model.recommender import Recommender
from thinkrec.prompt.catalogue import ArtefactPaths, Catalogue, PromptData
from thinkrec.prompt.template import Prompt
from thinkrec.routing.gate_table import Routing
from thinkrec.routing.router import routes
from thinkrec.score.scorer import NOTHING, Scorer
from thinkrec.score.serving import serving_model
from thinkrec.score.total import Scores, score_columns

DIRECT = "direct"
DONE = pa.schema(  # what is told of a bucket whose scores are written
    [
        pa.field("bucket", pa.int64()),
        pa.field("num_rows", pa.int64()),
        pa.field("valid", pa.list_(pa.struct([SCORES.field(name) for name in ("prior", "model", "label")]))),
        pa.field("candidates", pa.list_(pa.struct([pa.field("place", pa.uint64()), SCORES.field("row")]))),  # see candidates()
    ]
)
Gates = NDArray[np.float32]


def scored_as(config: Config, routing: Routing) -> list[str]:
    """Every variant whose scores are written."""
    return [*routing.variants, *[DIRECT] * (config.prompt.answer == "after")]


class BucketScorer:
    """What an actor does: the number of a bucket in; writes its SCORES at `out`, as if the model weighed 1, and tells DONE."""

    def __init__(self, config: Config, places: ArtefactPaths, out: str) -> None:
        self.config, self.places, self.out = config, places, out
        self.routing, self.catalogue = Routing(self.places), Catalogue.load(self.config, self.places)
        self.num_buckets = read_num_buckets(places.path("ingest"))
        self.recommender: Recommender | None = None

    def __call__(self, bucket: int) -> pa.Table:
        tables = self.catalogue.tables(buckets=[bucket])
        if self.recommender is None:
            self.recommender = serving_model(self.config, self.places, tables, self.routing.num_experts)
        split, evaluate, serving = tables.interactions.split, self.config.evaluate, self.routing.variants[-1]
        test = np.flatnonzero(split == TEST)
        if evaluate.max_rows:
            test = test[: self._share(evaluate.max_rows)]
        scored = self._scored(tables, bucket, test, scored_as(self.config, self.routing))
        for variant, rows in scored.items():
            write_scores(self.out, variant, bucket, rows)
        valid: list[dict[str, object]] = []
        if self.places.find("prior"):
            asked = _spread(np.flatnonzero(split == VALID), self._share(evaluate.max_valid_rows))
            valid = self._scored(tables, bucket, asked, [serving])[serving].to_pylist()
        explained = candidates(pl.DataFrame(scored[serving]), evaluate.num_explanations, self.config.run.seed)
        told = {"bucket": bucket, "num_rows": len(test), "valid": valid, "candidates": explained.to_dicts()}
        return pa.Table.from_pylist([told], schema=DONE)

    def _share(self, num_rows: int) -> int:
        """Of so many rows those of one bucket."""
        return -(-num_rows // self.num_buckets)

    def _scored(self, tables: PromptData, bucket: int, positions: NDArray[np.int64], variants: Sequence[str]) -> dict[str, pa.Table]:
        """SCORES of the rows at these positions, by variant."""
        assert self.recommender is not None
        data = tables.interactions
        users = [data.user_ids[user] for user in data.user[positions]]
        rows = {
            "row": data.row[positions],
            "user_id": users,
            "item_id": [data.item_ids[item] for item in data.item[positions]],
            "label": data.label[positions].astype(np.int8),
        }
        prior = read_offsets(self.places.find("prior"), data.row[positions], [bucket])
        speaker = Scorer(self.config, self.recommender, tables)
        prompts, owners = [tables.prompt(int(at)) for at in positions], data.user[positions].tolist()
        gates = {str(variant): self.routing.gates(variant, users) for variant in self.routing.variants if variant in variants}
        scores = score_once(speaker, prompts, owners, gates)
        if DIRECT in variants:
            gates[DIRECT] = gates[self.routing.variants[-1]]
            scores[DIRECT] = speaker.scores(prompts, owners, gates[DIRECT], [NOTHING] * len(prompts))
        return {
            variant: pa.table(rows | score_columns(prior, found, weight=1.0) | {"route": routes(gates[variant])}, schema=SCORES)
            for variant, found in scores.items()
        }


def candidates(rows: pl.DataFrame, num_rows: int, seed: int) -> pl.DataFrame:
    """(place, row) of at most so many rows to explain, one a user; the first by `place` of all buckets' candidates are those of all rows.

    A place is drawn for each row by itself, so what is chosen does not depend on how users lie in buckets.
    """
    drawn = rows.select("user_id", "row", place=pl.Series(scatter(rows["row"].to_numpy(), seed), dtype=pl.UInt64)).sort("place")
    return drawn.unique("user_id", keep="first", maintain_order=True).head(num_rows).select("place", "row")


def _spread(positions: NDArray[np.int64], num: int) -> NDArray[np.int64]:
    """So many of the positions at most, in even steps over all of them."""
    return positions[np.linspace(0, len(positions) - 1, min(num, len(positions))).astype(np.int64)]


def score_once(speaker: Scorer, prompts: Sequence[Prompt], users: Sequence[int], gates: Mapping[str, Gates]) -> dict[str, Scores]:
    """The scores (n,) of the prompts under every variant's gates (n, E + 1); a row that has the same gates in two of them is scored once.

    Most have: the fusion serves most users by one expert or by the global adapter alone.
    """
    rows = np.tile(np.arange(len(prompts)), len(gates))
    pairs = np.column_stack([rows, *np.concatenate(list(gates.values())).T])
    distinct, place = np.unique(pairs, axis=0, return_inverse=True)
    chosen = distinct[:, 0].astype(np.int64)
    mixtures = distinct[:, 1:].astype(np.float32)
    found = speaker.scores([prompts[at] for at in chosen], [users[at] for at in chosen], mixtures)[place.reshape(-1)]
    return dict(zip(gates, np.split(found, len(gates)), strict=True))
