"""What report.json holds. Scripts read it: `report_version` rises whenever a leaf is renamed, removed or comes to mean something else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from thinkrec.artefacts.ingest import Fingerprint, FoundRows
from thinkrec.artefacts.traces import AttemptFigures
from thinkrec.evaluate.metrics.calibration import Calibration
from thinkrec.evaluate.metrics.groups import Group, GroupDifference
from thinkrec.evaluate.metrics.table import DifferenceCell, DifferenceRow, MetricRow
from thinkrec.evaluate.metrics.text import Overlap

REPORT_VERSION = 2
REPORT_FILE = "report.json"
Shares = dict[str, float | None]  # figures by name; None where nothing was there to count


class RunFacts(TypedDict):
    """Which run this is the report of."""

    dir: str
    seed: int
    key: str


class PriorFacts(TypedDict):
    """What the language model's score weighs beside the prior, and how many valid rows say so."""

    model_weight: float
    num_valid_rows: int


class Planted(TypedDict):
    """The best possible AUC of a planted world, that of the best judge to whom facets only add (None in a world made before it was known),
    the share of the way to the first from chance that each scorer has gone, and of the way from the prior that the best scores have.
    """

    bayes_auc: float
    linear_auc: float | None
    recovered_share: Shares
    share_beyond_prior: float | None


class Cell(Group):
    """Rows by whether train has seen the user and the item."""

    user_seen: bool
    item_seen: bool


class Route(Group):
    """Rows served by an expert, the global adapter or a mixture."""

    route: str
    share: float


class ClusterRows(Group):
    """Rows of a cluster's users; -1 has no vector."""

    cluster: int


class CurvePoint(TypedDict):
    """AUC of a scorer on a fifth of the rows, by the length of the history or the popularity of the item."""

    by: str
    group: str
    first: int
    last: int
    num_rows: int
    num_users: int
    name: str
    auc: float | None
    low: float | None
    high: float | None


class Added(GroupDifference):
    """What the language model adds to the prior in a part of the rows: by seen (in train), route, history or popularity."""

    by: str
    part: str


class TellingKeyword(TypedDict):
    """A keyword that a cluster likes more often than all users do, and how many times as often."""

    keyword: str
    lift: float
    num_likes: int


class Portrait(TypedDict):
    """Who is in a cluster."""

    cluster: int
    num_users: int
    num_likes: int
    keywords: list[TellingKeyword]


class UserMap(TypedDict):
    """Users and centroids on the two directions in which users differ most."""

    points: list[tuple[float, float, int]]  # x, y, cluster
    centroids: list[tuple[float, float]]
    num_users: int
    num_shown: int
    explained_share: float


class TracesFacts(TypedDict):
    """What teachers were asked and what came of it."""

    num_asked: int | None
    num_attempts: int | None
    claim_rate: float | None
    num_tokens: int | None
    refused: dict[str, int] | None
    teachers: dict[str, AttemptFigures] | None
    accepted_share: float | None
    num_traces: int
    hinted_share: float | None
    truncated_share: float | None
    mean_tokens: float | None
    like_share: float | None
    by_attempt: list[dict[str, int]]


class ExpertRun(TypedDict):
    """An ExpertSpan (artefacts/adapters.py)."""

    expert: str
    group: int
    start_s: float
    end_s: float
    num_steps: int
    num_rows: int
    num_traces: int
    pack: Sequence[int]


class LossPoint(TypedDict):
    """Mean losses of some steps, and the last of them; None where a log tells none."""

    step: int
    loss: float | None
    rec: float | None
    think: float | None


class StageCost(TypedDict):
    """What a stage cost when it was last made; None where it recorded nothing."""

    stage: str
    wall_s: float | None
    num_gpus: int | None  # reserved
    gpu_hours: float | None
    num_tokens: int | None  # generated, refused ones too
    peak_bytes: int | None
    num_bytes: int  # on disk


class Cost(TypedDict):
    """Stages in the order of the run, and their sums."""

    stages: list[StageCost]
    total: Mapping[str, float | None]


class Response(TypedDict):
    """How far the score moves when an interaction that the explanation cites, or another, is changed."""

    num_rows: int
    cited: float | None
    other: float | None
    difference: DifferenceCell | None
    toward_share: NotRequired[float | None]  # of flips alone


class Verdicts(TypedDict):
    """What the texts' own verdicts and tastes have to do with the scores."""

    said_share: float
    consistent_share: float
    supported_share: float | None


class Grounding(TypedDict):
    """What texts state, and the shares of it that a prompt bears out; None where nothing was said."""

    num_claims: int
    right_share: float | None
    num_named: int
    grounded_share: float | None
    num_tastes: int
    polarity_share: float | None


class Stated(Grounding):
    """The same against the prompt of the row; shuffled: against that of another, None where there is no other."""

    shuffled: Grounding | None


class Think(TypedDict):
    """AUC by where the verdict stands: see reasoning.think."""

    first: float | None
    after: float | None
    none: float | None
    difference: DifferenceCell | None


class Explained(TypedDict):
    """A row of EXPLANATIONS (artefacts/scores.py), and why it is shown: wrong, right or random."""

    row: int
    user_id: str
    item_id: str
    label: int | None
    score: float
    prior: float
    model: float
    p_like: float
    route: str
    title: str
    verdict: str
    said: str
    text: str
    finish_reason: str
    prompt: str
    drawn: str


class Reasoning(Verdicts):
    """How good the model's own explanations are; see reasoning.py for what each figure is worth."""

    num_rows: int
    truncated_share: float
    leak_share: float
    mean_words: float
    claims: Stated
    diversity: Shares
    counterfactual: dict[str, Response]
    overlap: Mapping[str, Overlap | None]


class RulesNamed(TypedDict):
    """Explained rows of a planted world, and what their texts say of the rule that decided; see named_rules.py."""

    num_rows: int
    named_share: float
    chance_share: float
    right_share: float
    supported_share: float
    item_share: float | None
    shuffled_share: float | None


class Explanations(Reasoning):
    """The same, what thinking adds to the score, whether the rule is named, and some explanations to read."""

    think: Think
    rules: RulesNamed | None
    rows: list[Explained]


class Views(TypedDict):
    """The test rows seen from several sides."""

    cells: list[Cell]
    curves: list[CurvePoint]
    added: list[Added]
    routes: list[Route]
    clusters: list[ClusterRows]
    portraits: list[Portrait]
    map: UserMap | None
    calibration: Mapping[str, Calibration]


class StageFacts(TypedDict):
    """What the stages left behind."""

    figures: Mapping[str, Mapping[str, Any]]
    fingerprint: Fingerprint | None
    audit: Sequence[FoundRows]
    training: Mapping[str, Sequence[LossPoint]]
    timeline: Sequence[ExpertRun]
    traces: TracesFacts | None


class Report(Views, StageFacts):
    """The whole tree."""

    report_version: int
    run: RunFacts
    num_rows: int
    num_users: int
    like_rate: float
    best: str
    metrics: list[MetricRow]
    differences: list[DifferenceRow]
    prior: PriorFacts | None
    planted: Planted | None
    cost: Cost
    explanations: Explanations | None
    settings: Mapping[str, Any]  # the run file, with the defaults
    versions: dict[str, str]


def read_report(folder: Path) -> Report:
    """What the stage `evaluate` wrote."""
    report: Report = json.loads((folder / REPORT_FILE).read_text(encoding="utf-8"))
    return report
