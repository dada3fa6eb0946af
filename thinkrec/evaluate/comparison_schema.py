"""What comparison.json of a sweep holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from thinkrec.evaluate.metrics.table import Measured
from thinkrec.evaluate.metrics.text import TextMetric


class Headline(TypedDict):
    """What a comparison speaks of: its title, the base name of the reference, and the metric of its first sentences."""

    title: str
    reference: str
    metric: str


class Meteor(TextMetric):
    """METEOR of a trial's explanations against the best references there are."""

    references: str
    num_pairs: int


class EncoderAuc(TypedDict):
    """AUC of an encoder's own scores."""

    name: str
    auc: float | None


class TrialFacts(TypedDict):
    """What else is known of a trial; of its cost own_wall_s are the stages that no other trial shares."""

    name: str
    variant: str
    against: str
    seed: int
    num_rows: int
    num_users: int
    num_experts: int
    sizes: Sequence[int]
    cohens_d_max: float | None
    trace_share: float
    num_traces: int
    encoder: EncoderAuc | None
    meteor: Meteor | None
    cost: Mapping[str, float | None]


class Comparison(Headline, Measured):
    """The whole tree."""

    unpaired: Mapping[str, str]  # trial -> why no difference is claimed
    trials: Sequence[TrialFacts]
    seeds: Sequence[Mapping[str, Any]]  # name, num_seeds, and of each headline metric mean and sd of value and difference
    changed: Mapping[str, Mapping[str, Any]]  # setting -> trial -> value
    varied: str | None  # the one setting with numbers in which the trials differ
    failed: Mapping[str, str]
    wall_s: float
    num_bootstrap: int
    versions: Mapping[str, str]
