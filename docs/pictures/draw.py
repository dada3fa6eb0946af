"""Draws the pictures of README and docs from a finished run: `python docs/pictures/draw.py RUN_DIR`."""

from __future__ import annotations

import json
import re
import sys
from io import StringIO
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from rich.console import Console

from thinkrec.evaluate.report import svg
from thinkrec.evaluate.report.format import label
from thinkrec.evaluate.report.headline import metric_of, reference
from thinkrec.evaluate.report.style import PLOTS, SERIES
from thinkrec.events import ExpertStep, FleetDone
from thinkrec.journal import read_event
from thinkrec.watch.run_state import RunState
from thinkrec.watch.table import fleet_table

HERE = Path(__file__).parent
INK = {"--ink": "#1c2126", "--soft": "#626b75", "--faint": "#e6e8eb", "--accent": "#1d5fc4", "--type": "system-ui, sans-serif"}
TERMINAL = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 700 124" role="img" aria-label="experts while they train">
<style>.{unique_id}-matrix {{ font: {char_height}px ui-monospace, Menlo, Consolas, monospace; }} {styles}</style>
<rect width="100%" height="100%" rx="8" fill="#1c2126"/>
<g class="{unique_id}-matrix" transform="translate({terminal_x}, 12)">{matrix}</g></svg>
"""


def main(run: Path, out: Path = HERE) -> None:
    """Three files in `out`: scores with intervals, experts on their groups, and the table a terminal shows meanwhile."""
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    (out / "report_scores.svg").write_text(framed(scores(report)), encoding="utf-8")
    spans = [svg.Span(f"expert {row['expert']}", int(row["group"]), row["start_s"], row["end_s"]) for row in report["timeline"]]
    (out / "report_timeline.svg").write_text(framed(svg.gantt("experts side by side", spans)), encoding="utf-8")
    (out / "fleet_table.svg").write_text(terminal(run / "run.jsonl"), encoding="utf-8")


def scores(report: dict[str, Any]) -> str:
    """AUC of every scorer, as the report draws it."""
    rows = [(row, row["metrics"]["auc"]) for row in report["metrics"]]
    bars = [svg.Bar(label(row["name"]), auc["value"], auc["low"], auc["high"], strong=row["kind"] == "model") for row, auc in rows]
    return svg.intervals("AUC with 95 % intervals", bars, metric_of(report, reference(report), "auc"))


def framed(drawing: str) -> str:
    """A drawing of the report as a file of its own: its style sheet within, on white."""
    style = "\n".join(line for line in (PLOTS + SERIES).splitlines() if line.startswith("svg "))
    for name, value in INK.items():
        style = style.replace(f"var({name})", value)
    start, end = drawing.split(">", 1)
    start = start.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
    return f'{start}><style>{escape(style)}</style><rect width="100%" height="100%" fill="#fff"/>{end}\n'


def terminal(events: Path) -> str:
    """The live table at the middle of the fleet's time."""
    told = [read for line in events.read_text(encoding="utf-8").splitlines() if (read := read_event(line))]
    ended_at = next(at for event, at in told if isinstance(event, FleetDone))  # of the first run, if the folder has seen several
    steps = [at for event, at in told if isinstance(event, ExpertStep) and at <= ended_at]
    now = steps[len(steps) // 2]
    state = RunState()
    for event, at in told:
        if at <= now:
            state.see(event, at)
    console = Console(record=True, width=64, file=StringIO())
    console.print(fleet_table(state, now))
    drawn = console.export_svg(code_format=TERMINAL, unique_id="fleet")
    return re.sub(r' clip-path="[^"]*"|<text[^>]*>\n</text>', "", drawn)  # clips at lines that this frame does not define


if __name__ == "__main__":
    main(Path(sys.argv[1]))
