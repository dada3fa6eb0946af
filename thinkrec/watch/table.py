"""The state of a run as a table for people."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from thinkrec.text.duration import duration
from thinkrec.watch.run_state import Expert, RunState

STYLES = {"queued": "dim", "running": "bold", "done": "green", "failed": "bold red"}
STATES_BY_URGENCY = ("failed", "running", "queued", "done")  # who is left out last when there are more experts than lines


def fleet_table(state: RunState, at: float, max_rows: int = 10**6) -> RenderableType:
    """The experts of a fleet, at most `max_rows` of them, below a line that sums them up."""
    table = Table("expert", "", "group", "step", "loss", "tokens/s", "left", box=None, header_style="dim")
    numbers = sorted(state.experts, key=lambda number: (STATES_BY_URGENCY.index(state.experts[number].state), number))[:max_rows]
    for number in sorted(numbers):
        table.add_row(*_row(number, state.experts[number]), style=STYLES[state.experts[number].state])
    return Group(Text(summary(state, at)), table)


def summary(state: RunState, at: float) -> str:
    """One line: experts in each state, what is left, and how much of the groups' time went unused."""
    counts = state.counts()
    states = ", ".join(f"{counts[name]} {name}" for name in ("queued", "running", "done", "failed") if counts[name])
    parts = [f"{len(state.experts)} experts: {states}"]
    if (eta_s := state.eta_s()) is not None:
        parts.append(f"{duration(eta_s)} left")
    parts.append(f"{state.num_groups} groups, {state.idle_share(at):.0%} idle")
    return "; ".join(parts)


def _row(number: int, expert: Expert) -> list[str]:
    group = "" if expert.group is None else str(expert.group)
    step = f"{expert.step}/{expert.num_steps}" if expert.num_steps else ""
    loss = "" if expert.loss is None else f"{expert.loss:.4f}"
    rate = f"{expert.tokens_per_s:,.0f}" if expert.tokens_per_s else ""
    left = "" if expert.eta_s is None else duration(expert.eta_s)
    return [str(number), expert.state, group, step, loss, rate, left]
