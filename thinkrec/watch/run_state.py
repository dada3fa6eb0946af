"""Where a run stands, folded from its events: the live table, `thinkrec status` and the metrics all read this.

Events are the lines of `run.jsonl`; nothing else is asked, so a run that has ended can be looked at, too. Imports neither torch nor Ray.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from thinkrec.errors import MissingFileError
from thinkrec.events import EVENTS

State = Literal["queued", "running", "done", "failed"]


@dataclass
class Expert:
    """What is known of one expert; tokens are those that the fleet counts its work by."""

    num_tokens: float = 0.0
    state: State = "queued"
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
class Board:
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
    def of_file(cls, run_dir: str | Path) -> Board:
        """Of the last try of a run; raises MissingFileError where none was. A line that a killed run left half written is passed over."""
        file = Path(run_dir) / EVENTS
        board = cls()
        try:
            stream = file.open(encoding="utf-8", errors="replace")
        except (FileNotFoundError, NotADirectoryError):
            what, fix = "this is no run folder: it has no events", "name the run.dir of a run that was started"
            raise MissingFileError(what, str(file), fix) from None
        with stream:
            for line in stream:
                try:
                    fields = json.loads(line)
                    event, at = str(fields.pop("event")), float(fields.pop("at"))
                except (ValueError, KeyError, TypeError, AttributeError):
                    continue
                if event == "run":
                    board = cls()
                board.see(event, fields, at)
        return board

    def see(self, event: str, fields: Mapping[str, Any], at: float) -> None:
        """Take in one event; those that say nothing about progress only move `last_at`."""
        stage = fields.get("stage")
        match event:
            case "run":
                self.state, self.stages = "running", dict.fromkeys(fields["to_do"], "waiting")
            case "stage started" | "stage done" | "stage failed" | "stage cached":
                self.stages[str(stage)] = event.removeprefix("stage ")
                self._end_stage(event, str(stage), at)
            case "nothing to do":
                self.state = "done"
            case "fleet":
                self.num_groups, self.fleet_began_at, self.fleet_ended_at, self.busy_s = fields["num_groups"], at, 0.0, 0.0
                self.experts |= {int(expert): Expert(tokens) for expert, tokens in fields["num_tokens"].items()}
            case "fleet done":
                self._close_fleet(at)
            case "experts already committed":
                self.experts |= {expert: Expert(state="done") for expert in fields["experts"]}
            case "pack started" | "pack done" | "pack failed" | "group lost":
                self._see_pack(event, fields, at)
            case "expert step":
                self._see_step(fields)
            case "expert done":
                self._end(fields["expert"], "done")
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

    def as_dict(self, at: float) -> dict[str, Any]:
        """Everything, for JSON."""
        experts = {number: asdict(expert) | {"eta_s": expert.eta_s} for number, expert in sorted(self.experts.items())}
        fleet = {"num_groups": self.num_groups, "idle_share": self.idle_share(at), "eta_s": self.eta_s(), **self.counts()}
        return {"state": self.state, "silent_s": round(at - self.last_at, 1), "stages": self.stages, "fleet": fleet, "experts": experts}

    def _end_stage(self, event: str, stage: str, at: float) -> None:
        if event == "stage failed":
            self.state = "failed"
        elif event != "stage started" and all(state in ("done", "cached") for state in self.stages.values()):
            self.state = "done"
        if stage == "experts" and event != "stage started":
            self._close_fleet(at)

    def _see_pack(self, event: str, fields: Mapping[str, Any], at: float) -> None:
        group, experts = fields["group"], fields["experts"]
        self.busy_since.pop(group, None)
        if event == "pack started":
            self.busy_since[group] = at
            for expert, num_steps in zip(experts, fields["num_steps"], strict=True):
                one = self.experts.setdefault(expert, Expert())
                one.state, one.group, one.num_steps = "running", group, num_steps
        elif event == "pack done":
            self.busy_s += fields["busy_s"]
        else:  # experts of a failed pack try again alone, those of a lost group in another one
            final = event == "pack failed" and len(experts) == 1
            for expert in experts:
                if self.experts[expert].state != "done":
                    self._end(expert, "failed" if final else "queued")

    def _see_step(self, fields: Mapping[str, Any]) -> None:
        one = self.experts.setdefault(fields["expert"], Expert())
        one.step, one.num_steps, one.loss = fields["step"], fields["num_steps"], fields["loss"]
        one.tokens_per_s = fields["tokens_per_s"] if one.state == "running" else 0.0

    def _end(self, expert: int, state: State) -> None:
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
