"""Where a run stands, folded from its events: the live table, `thinkrec status` and the metrics all read this.

Events are read from the lines of `run.jsonl`; nothing else is asked, so a run that has ended can be looked at, too. Imports neither torch
nor Ray.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from thinkrec.errors import MissingFileError
from thinkrec.events import (
    Event,
    ExpertDone,
    ExpertsCommitted,
    ExpertStep,
    FleetDone,
    FleetStarted,
    GroupLost,
    NothingToDo,
    PackDone,
    PackFailed,
    PackStarted,
    RunStarted,
    StageAborted,
    StageCached,
    StageDone,
    StageStarted,
)
from thinkrec.journal import EVENTS, read_event

ExpertState = Literal["queued", "running", "done", "failed"]


@dataclass
class Expert:
    """What is known of one expert; tokens are those that the fleet counts its work by."""

    num_tokens: float = 0.0
    state: ExpertState = "queued"
    group: int | None = None
    step: int = 0
    num_steps: int = 0
    loss: float | None = None
    tokens_per_s: float = 0.0  # of the last stretch; 0 while it does not train

    @property
    def tokens_left(self) -> float:
        return self.num_tokens * (1 - self.step / self.num_steps) if self.num_steps else self.num_tokens

    @property
    def eta_s(self) -> float | None:
        return self.tokens_left / self.tokens_per_s if self.tokens_per_s else None


@dataclass
class RunState:
    """The state of a run after the events it was shown, in order; `at` is the time of an event in seconds since 1970."""

    state: str = "not started"
    stages: dict[str, str] = field(default_factory=dict)
    experts: dict[int, Expert] = field(default_factory=dict)
    num_groups: int = 0
    fleet_began_at: float = 0.0
    fleet_ended_at: float = 0.0
    busy_s: float = 0.0  # of all groups, with packs that have ended
    busy_since: dict[int, float] = field(default_factory=dict)  # by group
    last_at: float = 0.0

    @classmethod
    def of_file(cls, run_dir: str | Path) -> RunState:
        """Of the last try of a run; raises MissingFileError where none was. Lines that `read_event` cannot read are passed over."""
        file = Path(run_dir) / EVENTS
        found = cls()
        try:
            stream = file.open(encoding="utf-8", errors="replace")
        except (FileNotFoundError, NotADirectoryError):
            what, fix = "this is not a run folder: it has no events", "name the run.dir of a run that was started"
            raise MissingFileError(what, str(file), fix) from None
        with stream:
            for line in stream:
                if read := read_event(line):
                    if isinstance(read[0], RunStarted):
                        found = cls()
                    found.see(*read)
        return found

    def see(self, event: Event, at: float) -> None:
        """Take in one event; those that say nothing about progress only move `last_at`."""
        match event:
            case RunStarted(to_do=to_do):
                self.state, self.stages = "running", dict.fromkeys(to_do, "waiting")
            case StageStarted(stage=stage):
                self.stages[stage] = "started"
            case StageDone(stage=stage):
                self._end_stage(stage, "done", at)
            case StageCached(stage=stage):
                self._end_stage(stage, "cached", at)
            case StageAborted(stage=stage):
                self._end_stage(stage, "failed", at)
            case NothingToDo():
                self.state = "done"
            case FleetStarted(num_groups=num_groups, num_tokens=num_tokens):
                self.num_groups, self.fleet_began_at, self.fleet_ended_at, self.busy_s = num_groups, at, 0.0, 0.0
                self.experts |= {expert: Expert(tokens) for expert, tokens in num_tokens.items()}
            case FleetDone():
                self._close_fleet(at)
            case ExpertsCommitted(experts=experts):
                self.experts |= {expert: Expert(state="done") for expert in experts}
            case PackStarted() | PackDone() | PackFailed() | GroupLost():
                self._see_pack(event, at)
            case ExpertStep():
                self._see_step(event)
            case ExpertDone(expert=expert):
                self._end(expert, "done")
        self.last_at = at

    def idle_share(self, at: float) -> float:
        """Of the groups' time since the fleet began: without a pack, starting, or with one that was lost."""
        spent = self.num_groups * ((self.fleet_ended_at or at) - self.fleet_began_at)
        busy = self.busy_s + sum(at - since for since in self.busy_since.values())
        return min(1.0, max(0.0, 1 - busy / spent)) if spent > 0 else 0.0

    def eta_s(self) -> float | None:
        """Until the last expert is done, if all groups go on as fast as they do now; None while none trains."""
        rate = sum(expert.tokens_per_s for expert in self.experts.values())
        left = sum(expert.tokens_left for expert in self.experts.values() if expert.state in ("queued", "running"))
        return left / rate if rate else None

    def counts(self) -> Counter[str]:
        """Experts in each state."""
        return Counter(expert.state for expert in self.experts.values())

    def as_dict(self, at: float) -> dict[str, object]:
        """Everything, for JSON."""
        experts = {number: asdict(expert) | {"eta_s": expert.eta_s} for number, expert in sorted(self.experts.items())}
        fleet = {"num_groups": self.num_groups, "idle_share": self.idle_share(at), "eta_s": self.eta_s(), **self.counts()}
        return {"state": self.state, "silent_s": round(at - self.last_at, 1), "stages": self.stages, "fleet": fleet, "experts": experts}

    def _end_stage(self, stage: str, state: str, at: float) -> None:
        self.stages[stage] = state
        if state == "failed":
            self.state = "failed"
        elif all(state in ("done", "cached") for state in self.stages.values()):
            self.state = "done"
        if stage == "experts":
            self._close_fleet(at)

    def _see_pack(self, event: PackStarted | PackDone | PackFailed | GroupLost, at: float) -> None:
        self.busy_since.pop(event.group, None)
        if isinstance(event, PackStarted):
            self.busy_since[event.group] = at
            for expert, num_steps in zip(event.experts, event.num_steps, strict=True):
                one = self.experts.setdefault(expert, Expert())
                one.state, one.group, one.num_steps = "running", event.group, num_steps
        elif isinstance(event, PackDone):
            self.busy_s += event.busy_s
        else:  # experts of a failed pack try again alone, those of a lost group in another one
            final = isinstance(event, PackFailed) and len(event.experts) == 1
            for expert in event.experts:
                if self.experts[expert].state != "done":
                    self._end(expert, "failed" if final else "queued")

    def _see_step(self, event: ExpertStep) -> None:
        one = self.experts.setdefault(event.expert, Expert())
        one.step, one.num_steps, one.loss = event.step, event.num_steps, event.loss
        one.tokens_per_s = event.tokens_per_s if one.state == "running" else 0.0

    def _end(self, expert: int, state: ExpertState) -> None:
        one = self.experts.setdefault(expert, Expert())
        one.state, one.tokens_per_s = state, 0.0
        if state == "done":
            one.step = one.num_steps

    def _close_fleet(self, at: float) -> None:
        """Nothing trains any more."""
        self.fleet_ended_at = self.fleet_ended_at or at
        self.busy_since.clear()
        for one in self.experts.values():
            one.tokens_per_s = 0.0
