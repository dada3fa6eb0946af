"""The run file as one frozen typed tree.

A run is one TOML file. Every key is a field below, unknown keys are refused with the nearest name, and any key can be overridden as
`--set train.experts.lr=1e-4`. Nothing here imports torch, ray, vllm or faiss, so plans and checks start at once.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from thinkrec.config.cluster import ClusterResources, PlanSection, WatchSection
from thinkrec.config.data import DataSection, SplitSection
from thinkrec.config.generation import EngineSection, KeywordsSection, TracesSection
from thinkrec.config.model import AdapterSection, BaseSection, ClusterSection, EncoderSection, PriorSection, PromptSection
from thinkrec.config.recommend import RecommendSection
from thinkrec.config.refresh import RefreshSection
from thinkrec.config.section import Count, Section
from thinkrec.config.toml import put, read, split_override, validate
from thinkrec.config.training import FaultsSection, TrainSection


class RunSection(Section):
    """Where a run lives and what its random numbers begin with."""

    dir: str = Field(default="runs/default", min_length=1)
    """A folder, or an s3:// or gs:// address; all artefacts and the report live below it."""
    seed: int = Field(default=42, ge=0, lt=2**31)  # what numpy, torch, faiss and scikit-learn all take
    """Seed of everything that is drawn; a run with the same seed and settings gives the same numbers."""

    @model_validator(mode="after")
    def _address_is_no_secret(self) -> Self:
        if "@" in self.dir.partition("://")[2].partition("/")[0]:  # not repeated in the message: it is copied into logs and manifests
            raise ValueError("run.dir holds a user name or a password; leave them to the environment, see ray.secrets")
        return self


class EvaluateSection(Section):
    """How the run is scored, explained and judged."""

    fusion: Literal["exact", "peft_linear"] = "exact"
    """How experts are mixed: the weighted sum of their outputs, or the published arithmetic over their matrices."""
    num_bootstrap: Count = 1000
    """Resamples of users behind each interval."""
    num_explanations: Count = 80
    """Test rows that are explained in words; 80 is the paper's number."""
    bert_score_path: str = ""
    """Local folder of an encoder for BERTScore; empty leaves it out."""
    bert_score_layer: int = -1
    """Hidden layer of that encoder; -1 is the last."""
    bleurt_path: str = ""
    """Local folder of a sequence regressor trained as BLEURT; empty leaves it out."""
    max_rows: int = Field(default=0, ge=0)
    """Test rows that are scored at most; 0 = every one."""
    max_valid_rows: Count = 2000
    """Valid rows that are scored at most, where the run has a prior: they tell what the model's score weighs beside it."""
    license: str = ""
    """License on the adapters' model cards, in the Hub's spelling (apache-2.0); empty leaves it out."""
    batch_tokens: Count = 4096
    """Tokens of prompts that are scored or explained at once; lower it when memory is short."""


class Config(Section):
    """One run. `digest()` names it; each stage depends only on the sections it lists."""

    run: RunSection = RunSection()
    data: DataSection = DataSection()
    split: SplitSection = SplitSection()
    encoder: EncoderSection = EncoderSection()
    cluster: ClusterSection = ClusterSection()
    engine: EngineSection = EngineSection()
    keywords: KeywordsSection = KeywordsSection()
    prior: PriorSection = PriorSection()
    traces: TracesSection = TracesSection()
    base: BaseSection = BaseSection()
    prompt: PromptSection = PromptSection()
    adapter: AdapterSection = AdapterSection()
    train: TrainSection = TrainSection()
    faults: FaultsSection = FaultsSection()
    evaluate: EvaluateSection = EvaluateSection()
    recommend: RecommendSection = RecommendSection()
    refresh: RefreshSection = RefreshSection()
    ray: ClusterResources = ClusterResources()
    plan: PlanSection = PlanSection()
    watch: WatchSection = WatchSection()

    @model_validator(mode="after")
    def _nobody_disliked_what_was_drawn(self) -> Self:
        if self.data.label_rule == "implicit" and self.prompt.history_dislikes:
            raise ValueError('data.label_rule = "implicit" draws items that users never met: set prompt.history_dislikes = false')
        return self

    @model_validator(mode="after")
    def _new_items_are_known_by_content(self) -> Self:
        if self.recommend.new and self.prior.kind == "none":
            raise ValueError('recommend.new finds items by the content that the prior reads: set prior.kind = "counted"')
        return self

    @model_validator(mode="after")
    def _truth_is_planted(self) -> Self:
        if self.data.source == "world":
            return self
        if self.base.nano.reason_share:
            raise ValueError('base.nano.reason_share tells what a planted world alone knows: set it to 0, or data.source = "world"')
        if self.traces.enabled and any(teacher.path == "planted" for teacher in self.traces.teachers):
            raise ValueError('a planted teacher knows the world that was planted alone: name another, or set data.source = "world"')
        return self

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        train = self.train
        run_length = train.loss.rows_per_user if train.loss.rank > 0 else 1
        for name in ("global_adapter", "projector", "experts"):
            size = getattr(train, name).batch_size
            workers = (train.workers_per_group or 1) if name == "experts" else train.num_workers
            if size % (workers * run_length):
                raise ValueError(
                    f"train.{name}.batch_size {size} does not divide by {workers} workers x {run_length} rows that must stay together"
                )
        if (pull := train.experts.lr * self.refresh.proximal) > 1:
            raise ValueError(
                f"refresh.proximal {self.refresh.proximal} times train.experts.lr {train.experts.lr} is {pull:g}, above 1: a step would "
                f"carry an expert past the weights it is held at; give at most {1 / train.experts.lr:g}"
            )
        if run_length > 1 and run_length % self.prompt.targets_per_history:
            raise ValueError(
                f"train.loss.rows_per_user {run_length} is no multiple of prompt.targets_per_history {self.prompt.targets_per_history}: "
                "rows on one history stand together"
            )
        if self.traces.start_share < 1 and train.global_adapter.num_epochs <= 1:
            raise ValueError(
                f"traces.start_share {self.traces.start_share} leaves traces to the second epoch, and train.global_adapter.num_epochs is "
                f"{train.global_adapter.num_epochs}"
            )
        return self


def load(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a run file and apply `a.b=value` overrides; raises ConfigError or MissingFileError."""
    tree = read(path)
    for override in overrides:
        put(tree, *split_override(override), "--set")
    return parse(tree, str(path))


def parse(tree: dict[str, object], where: str = "config") -> Config:
    """Check a plain tree of tables against the fields above; raises ConfigError that names every wrong key."""
    return validate(Config, tree, where, "thinkrec config show prints every key with its value")


def dump(config: Config) -> str:
    """The resolved tree as JSON, stable in order."""
    return json.dumps(config.model_dump(), indent=2, sort_keys=False)
