"""A finished run in Python: its settings, report, router and adapters, and the fused model, which scores and explains."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from thinkrec.artefacts.models import base_model
from thinkrec.artefacts.scores import read_model_weight
from thinkrec.config.run import Config, parse
from thinkrec.data.interactions import Interactions
from thinkrec.errors import ArtefactError, ConfigError, DataError, MissingFileError
from thinkrec.evaluate.report.table import report_text
from thinkrec.evaluate.run_report.publish import adapter_folders
from thinkrec.evaluate.run_report.schema import Report
from thinkrec.pipeline.stages import STAGES, lookup
from thinkrec.prior.counted import CountedPrior
from thinkrec.prior.rows import Rows
from thinkrec.prior.stored import read_prior
from thinkrec.prompt.catalogue import ArtefactPaths, Catalogue, PromptData
from thinkrec.routing.gate_table import Routing, Variant
from thinkrec.routing.router import Router, routes
from thinkrec.store.address import exists, read_record
from thinkrec.store.artefacts import Artefact, Store

if TYPE_CHECKING:  # who looks at a report waits for no torch
    from thinkrec.model.recommender import Recommender
    from thinkrec.prompt.template import Prompt
    from thinkrec.score.scorer import Answer, Scorer

__all__ = ["Run", "open_run"]

Ids = str | Sequence[str]
NUM_NAMED = 3  # ids in an error


def open_run(folder: str | Path) -> Run:
    """The finished run in a folder or at an s3:// or gs:// address: run.dir of its run file, or trials/NAME of a sweep.

    Nothing is loaded before it is asked for, and neither the run file nor the data it named need be there any more. Raises
    MissingFileError where no finished run is, ConfigError for settings that this version does not know.
    """
    where = str(folder).rstrip("/")
    report = read_record(f"{where}/report.json", Report)
    if report is None:
        raise MissingFileError("there is no finished run here", where, "give the folder that holds report.json: run.dir of the run file")
    if not {"run", "settings"} <= report.keys():
        raise DataError("this report is not that of a run", f"{where}/report.json", "give run.dir of a run file")
    sweep, trials, _ = where.rpartition("/trials/")
    store = Store(sweep if trials else where)
    judged = _found(store, "evaluate", report["run"]["key"])
    artefacts = {stage: _found(store, stage, needed["key"]) for stage, needed in judged.manifest["inputs"].items()}
    return Run(store.root, report, artefacts | {"evaluate": judged})


def finished_run(config: Config) -> Run:
    """The finished run of a run file; raises MissingFileError where there is none, ConfigError where other settings made it.

    What the report alone reads may differ, and what decides no result.
    """
    where = config.run.dir
    if exists(where) and not exists(f"{where}/report.json"):
        raise MissingFileError("the run here is not finished: it has no report.json", where, "thinkrec run goes on with it")
    run = open_run(where)
    asked, made = (settings.model_dump(mode="json") for settings in (config, run.settings))
    keys = dict.fromkeys(key for stage in STAGES if stage.name != "evaluate" for key in stage.reads)
    if changed := [key for key in keys if lookup(asked, key) != lookup(made, key)]:
        what = f"the run here was made with other settings of {', '.join(changed)}"
        raise ConfigError(what, where, "thinkrec run makes it with these, or name the run file it was made with")
    return run


def _found(store: Store, stage: str, key: str) -> Artefact:
    artefact = store.find(stage, key)
    if artefact is None:
        raise ArtefactError(
            "an artefact of this run is gone", f"{store.root}/{stage}/{key}", "make the run again, it makes what is missing"
        )
    return artefact


@dataclass(frozen=True)
class Run:
    """A finished run; `open_run` makes it. `str` of it is the table that the run ended with.

    dir: where its artefacts lie. report: report.json. artefacts: the committed artefact of each stage.
    """

    dir: str
    report: Report = field(repr=False)
    artefacts: Mapping[str, Artefact] = field(repr=False)

    def __str__(self) -> str:
        return report_text(self.report)

    @cached_property
    def settings(self) -> Config:
        """The run file with which the run was made, but for run.dir, which is where the run lies now."""
        tree = dict(self.report["settings"])
        return parse(tree | {"run": tree["run"] | {"dir": self.dir}}, f"{self.dir}/report.json")

    @cached_property
    def router(self) -> Router:
        """What gives each user vector its mixture of adapters."""
        return Router.load(self.artefacts["cluster"].path())

    @property
    def adapters(self) -> dict[str, Path]:
        """The PEFT folder of each adapter: global, expert-0, expert-1, ..."""
        return adapter_folders(self.artefacts)

    def score(self, users: Ids, items: Ids, variant: Variant | None = None) -> NDArray[np.float32]:
        """How much each user likes each item, (n,): log-odds of a like, prior + g * model, or in a run without a prior the model's score.

        users, items: ids, n of each, or one for all. What stands in the log is scored as it stood then, by what the user did before: a test
        row has the very score of the run's score files. Any other pair is scored as of now, by all that the user did.
        variant: "fusion" (the one that serves, where there are experts), "experts" or "global". Raises DataError for ids that the run does
        not know, ConfigError for a variant that it does not have.
        """
        scorer, prompts, gates = self._ask(users, items, variant)
        return self._columns(scorer, prompts, gates, None)["score"]

    def explain(self, users: Ids, items: Ids, variant: Variant | None = None) -> pl.DataFrame:
        """What the model says to each pair, with a prior for the verdict of the score: user_id, item_id, title, score, verdict, text, ...

        The columns are those of explanations.parquet, the arguments those of `score`.
        """
        from thinkrec.score.explain import explanation

        scorer, prompts, gates = self._ask(users, items, variant)
        owners, data = range(len(prompts)), scorer.tables.interactions
        thoughts = scorer.thoughts(prompts, owners, gates)
        columns = self._columns(scorer, prompts, gates, thoughts)
        answers = scorer.reasons(prompts, owners, gates, columns["score"], thoughts)
        positions = _positions(data)
        named = {"user_id": data.user_ids, "item_id": [data.item_ids[item] for item in data.item[positions]]}
        rows = pl.DataFrame(named | columns | {"route": routes(gates)}).to_dicts()
        return pl.DataFrame(
            [explanation(scorer, row, at, answer) for row, at, answer in zip(rows, positions.tolist(), answers, strict=True)]
        )

    def prompts(self, users: Ids, items: Ids) -> pl.DataFrame:
        """What the model is asked of each pair, for who asks it elsewhere, as in vLLM: user_id, item_id, prompt (token ids), prior.

        The arguments are those of `score`, and prior is its part of the score, 0 in a run without one. No model is loaded.
        """
        tables, prompts = self._questions(users, items)
        data = tables.interactions
        columns = {
            "user_id": data.user_ids,
            "item_id": [data.item_ids[item] for item in data.item[_positions(data)]],
            "prompt": [prompt.ids for prompt in prompts],
            "prior": self._offsets(data),
        }
        return pl.DataFrame(columns, schema_overrides={"prompt": pl.List(pl.Int32)})

    def _ask(self, users: Ids, items: Ids, variant: Variant | None) -> tuple[Scorer, list[Prompt], NDArray[np.float32]]:
        """The fused model over a table with one user a pair, the prompt of each pair and its gates (n, E + 1)."""
        from thinkrec.score.scorer import Scorer

        variants = self._routing.variants
        if variant not in (None, *variants):
            raise ConfigError(f"this run has no variant {variant!r}", self.dir, f"there are {', '.join(variants)}")
        tables, prompts = self._questions(users, items)
        gates = self._routing.gates(variant or variants[-1], tables.interactions.user_ids)
        return Scorer(self.settings, self._recommender, tables), prompts, gates

    def _questions(self, users: Ids, items: Ids) -> tuple[PromptData, list[Prompt]]:
        """A table with one user a pair, and the prompt of each pair."""
        owners, targets = _pairs(users, items)
        log = Interactions.load(self._places.path("ingest"), users=set(owners))
        asked = log.asked(_indices(owners, log.user_ids, "user"), _indices(targets, log.item_ids, "item"))
        tables = self._catalogue.tables_of(asked)
        return tables, [tables.prompt(at) for at in _positions(asked).tolist()]

    def _columns(
        self, scorer: Scorer, prompts: list[Prompt], gates: NDArray[np.float32], thoughts: list[Answer] | None
    ) -> dict[str, NDArray[np.float32]]:
        """score, prior, model and p_like of what `_ask` returned."""
        from thinkrec.score.total import score_columns

        model = scorer.scores(prompts, range(len(prompts)), gates, thoughts)
        return score_columns(self._offsets(scorer.tables.interactions), model, read_model_weight(self.artefacts["score"].path()))

    def _offsets(self, asked: Interactions) -> NDArray[np.float32]:
        """The prior's log-odds of each row asked about; 0 in a run without a prior."""
        if self._prior is None:
            return np.zeros(len(asked.user_ids), np.float32)
        rows = Rows.of(asked, self.settings.prompt.history_policy == "rolling")
        positions = _positions(asked)
        queries, of_new = (rows.queries(same_second).take(positions) for same_second in (self.settings.prior.same_second, "seen"))
        is_new = asked.row[positions] < 0  # it comes after all that the user did, and has the time of the last of it
        queries = replace(queries, seen=np.where(is_new, of_new.seen, queries.seen))
        return np.asarray(self._prior.offsets(rows.histories(), queries).offset, np.float32)

    @cached_property
    def _prior(self) -> CountedPrior | None:
        return read_prior(self.artefacts["prior"].path()) if "prior" in self.artefacts else None

    @cached_property
    def _places(self) -> ArtefactPaths:
        return ArtefactPaths({stage: artefact.uri for stage, artefact in self.artefacts.items()})

    @cached_property
    def _routing(self) -> Routing:
        return Routing(self._places)

    @cached_property
    def _catalogue(self) -> Catalogue:
        base = base_model(self._places.path("base"))
        if not base.is_dir():
            raise MissingFileError("the base model of this run is gone", str(base), "put it back there: adapters are nothing without it")
        return Catalogue.load(self.settings, self._places)

    @cached_property
    def _recommender(self) -> Recommender:
        from thinkrec.score.serving import serving_model

        return serving_model(self.settings, self._places, self._catalogue.tables(users=()), self._routing.num_experts)


def _positions(asked: Interactions) -> NDArray[np.int64]:
    """Of the rows asked about: each user's last."""
    return asked.offsets[1:] - 1


def _pairs(users: Ids, items: Ids) -> tuple[list[str], list[str]]:
    """Both columns at their full length; raises DataError where they do not go together or hold no ids."""
    for side in (users, items):
        if not isinstance(side, Iterable):
            raise DataError(f"{side!r} is not a list of ids", "users, items", "give a string or a list of strings")
    owners, targets = ([side] if isinstance(side, str) else list(side) for side in (users, items))
    strange = next((value for value in (*owners, *targets) if not isinstance(value, str)), None)
    if strange is not None:
        raise DataError(f"{strange!r} is not an id: ids are strings", "users, items", "write it as in the interactions: str(...)")
    num_pairs = len(targets) if isinstance(users, str) else len(owners)
    owners = owners * num_pairs if isinstance(users, str) else owners
    targets = targets * num_pairs if isinstance(items, str) else targets
    if len(owners) != len(targets):
        raise DataError(f"{len(owners)} users for {len(targets)} items", "users, items", "give as many of both, or one for all")
    return owners, targets


def _indices(ids: list[str], known: Sequence[str], kind: str) -> NDArray[np.int64]:
    index = {identity: at for at, identity in enumerate(known)}
    if strange := [identity for identity in dict.fromkeys(ids) if identity not in index]:
        named = ", ".join(map(repr, strange[:NUM_NAMED])) + (", ..." if len(strange) > NUM_NAMED else "")
        raise DataError(f"{len(strange)} {kind}s are not in the data of this run: {named}", f"{kind}s", "write ids as in the interactions")
    return np.array([index[identity] for identity in ids], np.int64)
