"""The sweep file: one experiment as a recipe and what each trial changes in it.

    title = "Number of experts"
    recipe = "../recipes/world_nano.toml"  # relative to this file
    dir = "runs/num_experts"
    reference = "experts_2"
    set.evaluate.num_explanations = 30     # in every trial

    [trials.experts]
    grid.cluster.num_clusters = [1, 2, 3]  # the trials experts_1, experts_2, experts_3

Keys below `set` and `grid` are those of the run file, spelled as for --set. Nothing here imports torch or ray.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from thinkrec.config.section import Count, Section

ComparedVariant = Literal["served", "fusion", "experts", "global", "direct"]  # served: the mixture of experts where there are any
Metric = Literal["auc", "uauc", "ndcg@5", "map@5"]
Keys = dict[str, object]  # of the run file, with their values
Seed = Annotated[int, Field(ge=0, lt=2**31)]


class TrialSection(Section):
    set: Keys = Field(default_factory=dict)
    grid: Keys = Field(default_factory=dict)  # lists of values: a trial for each combination, named after them
    variant: ComparedVariant | None = None  # which scores are compared; none: those that the sweep says
    model_of: str = ""  # the trial whose base and global adapter this one takes instead of training its own


class SweepFile(Section):
    title: str = Field(min_length=1)
    recipe: str = Field(min_length=1)
    dir: str = Field(min_length=1)  # run.dir of all trials: one store, so what they share is made once
    reference: str  # the trial that all others are held against
    variant: ComparedVariant = "served"
    metric: Metric = "auc"  # what the headline speaks of; all are measured
    seeds: tuple[Seed, ...] = ()  # every trial once a seed; none: the recipe's own
    num_parallel: Count = 1  # stages made at a time
    set: Keys = Field(default_factory=dict)
    trials: Annotated[dict[str, TrialSection], Field(min_length=1)]

    @model_validator(mode="after")
    def _seeds_differ(self) -> Self:
        if len({*self.seeds}) < len(self.seeds):
            raise ValueError("seeds holds a number twice")
        return self
