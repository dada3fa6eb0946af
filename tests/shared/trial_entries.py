"""Finished trials made of the planted artefacts, alike but for what a test changes. Not a test itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from thinkrec.artefacts.scores import read_scores, scored_variants, write_scores
from thinkrec.config.run import parse
from thinkrec.evaluate.compare import Entry
from thinkrec.store.artefacts import Artefact, Store

SETTINGS = {"title": "Trials <script>", "metric": "auc", "reference": "a"}


class Trials:
    """Entries over one set of artefacts: `noise` worsens a trial's scores, `rows` keeps some of them, `tree` is its run file."""

    def __init__(self, inputs: dict[str, Artefact], judged: Artefact, root: Path) -> None:
        self._shared, self._store = {**inputs, "evaluate": judged}, Store(str(root))
        self._number = 0

    def __call__(
        self, name: str, noise: float = 0.0, rows: pl.Expr | None = None, tree: dict[str, Any] | None = None, **fields: Any
    ) -> Entry:
        config = parse({"evaluate": {"num_bootstrap": 50}, **(tree or {})})
        num_clusters = config.cluster.num_clusters
        clusters = {"num_clusters": num_clusters, "sizes": [20] * num_clusters, "cohens_d_max": 0.5}
        artefacts = {**self._shared, "score": self._score(noise, rows), "cluster": self._make("cluster", clusters)}
        base, reference = fields.get("base", name), fields.get("reference", "a")
        return Entry(name, base, reference, fields.get("variant", "served"), config, artefacts)

    def _score(self, noise: float, rows: pl.Expr | None) -> Artefact:
        folder = self._shared["score"].path()

        def write(target: Path) -> None:
            for name in scored_variants(folder):
                table = read_scores(folder, name)
                moved = pl.Series("score", np.random.default_rng(1).normal(size=table.height) * noise, dtype=pl.Float32)
                table = table.with_columns(score=pl.col("score") + moved)
                write_scores(target, name, 0, (table if rows is None else table.filter(rows)).to_arrow())

        return self._make("score", {}, write)

    def _make(self, stage: str, figures: dict[str, Any], write: Any = lambda folder: None) -> Artefact:
        self._number += 1
        key = f"key{self._number}"
        with self._store.create(stage, key, {}, {}) as draft:
            write(draft.local())
            draft.figures.update(figures)
        found = self._store.find(stage, key)
        assert found is not None
        return found
