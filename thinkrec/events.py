"""Every event of a run, which journal.py writes as one JSON line each in `run.jsonl`.

A line holds `at` (seconds since 1970), `event` (the name below), `elapsed_s` (since the command began; not from workers), and the fields of
its class. In a sweep the events of a trial's stages name it as `trial`. Imports neither torch nor Ray.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import ClassVar


@dataclass(frozen=True)
class Event:
    """What happened; each class below is one event, and its fields are those of the line."""

    event: ClassVar[str]
    is_flat: ClassVar[bool] = False  # each figure is a field of the line

    trial: str = field(default="", kw_only=True)  # of a sweep; absent from other lines

    def fields(self) -> dict[str, object]:
        """What the line holds beside time and name."""
        fields = asdict(self)
        if not self.trial:
            del fields["trial"]
        return fields | fields.pop("figures") if self.is_flat else fields


# A run and its stages


@dataclass(frozen=True)
class RunStarted(Event):
    """`thinkrec run` begins, or begins again: what came before in the file was another try."""

    event: ClassVar[str] = "run"
    dir: str
    stages: int  # how many this run asks for
    to_do: tuple[str, ...]  # names of those that are not committed


@dataclass(frozen=True)
class StageStarted(Event):
    """A stage begins to make its artefact."""

    event: ClassVar[str] = "stage started"
    stage: str
    key: str


@dataclass(frozen=True)
class StageDone(Event):
    """The artefact of a stage is committed."""

    event: ClassVar[str] = "stage done"
    stage: str
    key: str
    figures: Mapping[str, object]  # of its manifest, without lists and tables
    seconds: float = 0.0


@dataclass(frozen=True)
class StageCached(Event):
    """The artefact of a stage was there already."""

    event: ClassVar[str] = "stage cached"
    stage: str
    key: str


@dataclass(frozen=True)
class StageAborted(Event):
    """A stage ended by an error that is no bug; the run ends with it."""

    event: ClassVar[str] = "stage failed"
    stage: str
    error: str


@dataclass(frozen=True)
class NothingToDo(Event):
    """Everything that was asked for is committed already."""

    event: ClassVar[str] = "nothing to do"
    dir: str


@dataclass(frozen=True)
class LeaseTakenOver(Event):
    """Another run held the run folder and is gone."""

    event: ClassVar[str] = "lease taken over"
    of: str


@dataclass(frozen=True)
class Warned(Event):
    """Something that the user should look at; the run goes on."""

    event: ClassVar[str] = "warning"
    text: str


@dataclass(frozen=True)
class Noted(Event):
    """Something that the user may want to know: a choice that was made, what a reader passed over."""

    event: ClassVar[str] = "note"
    text: str


# A sweep


@dataclass(frozen=True)
class SweepStarted(Event):
    """`thinkrec sweep` begins."""

    event: ClassVar[str] = "sweep"
    dir: str
    trials: int
    stages: int  # different ones, of all trials
    to_do: int  # of these


@dataclass(frozen=True)
class TrialFailed(Event):
    """A trial lacks a stage; said at the end, once a trial."""

    event: ClassVar[str] = "trial failed"
    error: str


@dataclass(frozen=True)
class Compared(Event):
    """The comparison of the trials is committed."""

    event: ClassVar[str] = "compared"
    trials: int  # that came through
    key: str


# What stages say of their work


@dataclass(frozen=True)
class Ingested(Event):
    """The log is read, split and audited."""

    event: ClassVar[str] = "ingested"
    is_flat: ClassVar[bool] = True
    figures: Mapping[str, object]  # num_rows, num_users, num_items; rows and like rate of each split; num_quarantined, num_leaks


@dataclass(frozen=True)
class Encoded(Event):
    """Users and items have vectors."""

    event: ClassVar[str] = "encoded"
    is_flat: ClassVar[bool] = True
    figures: Mapping[str, object]  # as in encoder.json, and num_vectors_missing


@dataclass(frozen=True)
class PriorFitted(Event):
    """The counted prior is fitted, and every row has its offset."""

    event: ClassVar[str] = "prior fitted"
    is_flat: ClassVar[bool] = True
    figures: Mapping[str, object]  # num_items, num_traits, num_regressions, valid_auc


@dataclass(frozen=True)
class Clustered(Event):
    """Users are assigned to clusters."""

    event: ClassVar[str] = "clustered"
    is_flat: ClassVar[bool] = True
    figures: Mapping[str, object]  # of the k-means and of the assignment


@dataclass(frozen=True)
class NanoBaseStarted(Event):
    """A nano base begins to learn the text of the log."""

    event: ClassVar[str] = "nano base"
    num_rows: int


@dataclass(frozen=True)
class ExtractorStarted(Event):
    """A nano keyword extractor begins to learn."""

    event: ClassVar[str] = "extractor lessons"
    num_lessons: int
    num_held_out: int


@dataclass(frozen=True)
class TeacherStarted(Event):
    """A nano teacher begins to learn."""

    event: ClassVar[str] = "teacher lessons"
    num_lessons: int
    example: str


@dataclass(frozen=True)
class GenerationStarted(Event):
    """Engines begin to answer what the ledger has no answer to."""

    event: ClassVar[str] = "generation"
    what: str
    num_rows: int
    num_new: int  # rows without an answer
    num_shards: int
    ledger: str  # its address


@dataclass(frozen=True)
class Judged(Event):
    """The test rows are scored and measured."""

    event: ClassVar[str] = "judged"
    num_rows: int
    scorers: tuple[str, ...]


@dataclass(frozen=True)
class Reported(Event):
    """The report is written."""

    event: ClassVar[str] = "reported"
    path: str


# The experts


@dataclass(frozen=True)
class ExpertsCommitted(Event):
    """Experts that an earlier try trained."""

    event: ClassVar[str] = "experts already committed"
    experts: tuple[int, ...]


@dataclass(frozen=True)
class FleetStarted(Event):
    """Groups of workers begin to train the experts that are missing."""

    event: ClassVar[str] = "fleet"
    num_groups: int
    workers_per_group: int
    strategy: str  # Ray's, of a group's placement
    packs: tuple[tuple[int, ...], ...]  # experts that train side by side, in the order of the queue
    num_tokens: Mapping[int, float]  # by expert: prompt tokens of the rows that its steps will show


@dataclass(frozen=True)
class WorkerPlace:
    """Where a worker of a group is."""

    node: str  # the beginning of Ray's node id
    gpus: tuple[int | str, ...]


@dataclass(frozen=True)
class GroupStarted(Event):
    """A group has loaded the base."""

    event: ClassVar[str] = "group started"
    group: int
    workers: tuple[WorkerPlace, ...]  # by rank


@dataclass(frozen=True)
class PackStarted(Event):
    """A group begins with these experts."""

    event: ClassVar[str] = "pack started"
    group: int
    experts: tuple[int, ...]
    num_steps: tuple[int, ...]  # of each expert
    num_tokens: tuple[float, ...]


@dataclass(frozen=True)
class ExpertStep(Event):
    """How far an expert is, every `watch.every_s`."""

    event: ClassVar[str] = "expert step"
    group: int
    expert: int
    step: int  # how many it has made
    num_steps: int
    loss: float  # of the newest step
    tokens_per_s: float  # since the last such event


@dataclass(frozen=True)
class ExpertDone(Event):
    """An expert is committed."""

    event: ClassVar[str] = "expert done"
    group: int
    expert: int
    num_steps: int


@dataclass(frozen=True)
class PackDone(Event):
    """All experts of a pack are committed."""

    event: ClassVar[str] = "pack done"
    group: int
    experts: tuple[int, ...]
    busy_s: float


@dataclass(frozen=True)
class PackFailed(Event):
    """A pack failed permanently: its experts are tried again, each alone; one that was alone is given up."""

    event: ClassVar[str] = "pack failed"
    group: int
    experts: tuple[int, ...]
    error: str


@dataclass(frozen=True)
class GroupLost(Event):
    """A group found no room on the cluster; the others train what it held."""

    event: ClassVar[str] = "group lost"
    group: int
    experts: tuple[int, ...]
    error: str


@dataclass(frozen=True)
class FleetDone(Event):
    """No group trains any more."""

    event: ClassVar[str] = "fleet done"
    makespan_s: float
    idle_share: float  # of the groups' time


# Recommending


@dataclass(frozen=True)
class BucketListed(Event):
    """The lists of one bucket of users are there."""

    event: ClassVar[str] = "bucket listed"
    bucket: int
    buckets: int  # that were asked for
    figures: Mapping[str, object]  # as BucketCounts in artefacts/recommendations.py


@dataclass(frozen=True)
class Listed(Event):
    """All lists that were asked for are there."""

    event: ClassVar[str] = "listed"
    dir: str
    figures: Mapping[str, object]  # summed over the buckets


# Faults


@dataclass(frozen=True)
class GroupFailed(Event):
    """A worker group died; distributed/failures.py has the classes of failures and what is done about each."""

    event: ClassVar[str] = "group failed"
    group: str  # the name of the worker group
    failure: str
    action: str
    times: int  # this failure so far
    reason: str


@dataclass(frozen=True)
class CheckpointRefused(Event):
    """A checkpoint is damaged; training goes on from the one before."""

    event: ClassVar[str] = "checkpoint refused"
    checkpoint: str
    reason: str
    where: str


KINDS: Mapping[str, type[Event]] = {kind.event: kind for kind in Event.__subclasses__()}
