"""Plots as inline SVG: pure functions from numbers to text, 360 units wide so that their type stays readable on a phone.

Colours and type come from the page's style sheet through class names; every label is escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from thinkrec.evaluate.report.axes import WIDTH, Axis, drawing, legend, text
from thinkrec.evaluate.report.style import COLOURS


@dataclass(frozen=True)
class Bar:
    """A labelled value with its interval; `strong` rows are the ones the page is about."""

    label: str
    value: float | None
    low: float | None = None
    high: float | None = None
    strong: bool = False


@dataclass(frozen=True)
class Span:
    """Something that ran in `lane` from `start` to `end` seconds."""

    label: str
    lane: int
    start: float
    end: float


def intervals(title: str, rows: Sequence[Bar], reference: float | None = None) -> str:
    """A dot and its interval for each row, on one axis; a dashed line at `reference`."""
    known = [edge for row in rows for edge in (row.value, row.low, row.high) if edge is not None]
    if not known:
        return ""
    axis = Axis.around(known, 130, WIDTH - 44)
    height = 24 * len(rows) + 26
    parts = [axis.grid(6, height - 22, height - 8)]
    if reference is not None:
        parts.append(f'<line class="reference" x1="{axis(reference):.1f}" x2="{axis(reference):.1f}" y1="4" y2="{height - 22}"/>')
    for n, row in enumerate(rows):
        y, tone = 18 + 24 * n, "strong" if row.strong else "plain"
        parts.append(text(122, y + 4, row.label, f"end {tone}"))
        if row.value is None:
            parts.append(text(138, y + 4, "not defined", "plain"))
            continue
        if row.low is not None and row.high is not None:
            parts.append(f'<line class="range {tone}" x1="{axis(row.low):.1f}" x2="{axis(row.high):.1f}" y1="{y}" y2="{y}"/>')
        parts.append(f'<circle class="{tone}" cx="{axis(row.value):.1f}" cy="{y}" r="4"/>')
        parts.append(text(WIDTH, y + 4, f"{row.value:.3f}", f"end {tone}"))
    return drawing(title, height, parts)


def lines(title: str, series: Mapping[str, Sequence[tuple[float, float]]], x_label: str, y_label: str) -> str:
    """Curves over one pair of axes, with a legend below; the first six of them tell well apart."""
    points = [point for curve in series.values() for point in curve if math.isfinite(point[1])]
    if not points:
        return ""
    across = Axis.around([x for x, _ in points], 44, WIDTH - 10)
    up = Axis.around([y for _, y in points], 180, 18)
    parts = [across.grid(10, 184, 198), up.rules(44, WIDTH - 10)]
    for n, curve in enumerate(series.values()):
        path = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in curve if math.isfinite(y))
        parts.append(f'<polyline class="c{n % len(COLOURS)}" points="{path}"/>')
    parts += [text(WIDTH - 10, 212, x_label, "end plain"), text(0, 10, y_label, "plain")]
    named, height = legend(list(series) if len(series) > 1 else [], 216)
    return drawing(title, height, [*parts, *named])


def curves(title: str, series: Mapping[str, Sequence[tuple[float, Bar]]], x_label: str) -> str:
    """Dots with their intervals over a numeric axis, (x, bar), those of a series joined by a line; a legend where there are several."""
    places = [(x, bar) for points in series.values() for x, bar in points if bar.value is not None]
    if not places:
        return ""
    across = Axis.around([x for x, _ in places], 54, WIDTH - 20)
    up = Axis.around([edge for _, bar in places for edge in (bar.value, bar.low, bar.high) if edge is not None], 180, 12)
    parts = [across.grid(12, 184, 198), up.rules(44, WIDTH - 10), text(WIDTH - 10, 214, x_label, "end plain")]
    for n, points in enumerate(series.values()):
        tone, shift = f"c{n % len(COLOURS)}", 4 * (n - (len(series) - 1) / 2)  # beside each other, not on top
        known = [(across(x) + shift, up(bar.value), bar) for x, bar in sorted(points, key=lambda point: point[0]) if bar.value is not None]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in known)
        parts.append(f'<polyline class="{tone} thin" points="{path}"/>')
        for x, y, bar in known:
            if bar.low is not None and bar.high is not None:
                parts.append(f'<line class="{tone}" x1="{x:.1f}" x2="{x:.1f}" y1="{up(bar.low):.1f}" y2="{up(bar.high):.1f}"/>')
            parts.append(f'<circle class="{tone}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>')
    named, height = legend(list(series) if len(series) > 1 else [], 218)
    return drawing(title, height, [*parts, *named])


def trade(title: str, series: Mapping[str, Sequence[tuple[float, float, str]]], x_label: str, y_label: str) -> str:
    """Two measures against each other: named dots (x, y, name), those of a series joined in their order."""
    places = [point for points in series.values() for point in points]
    if not places:
        return ""
    across = Axis.around([x for x, _, _ in places], 54, WIDTH - 50, margin=0.08)
    up = Axis.around([y for _, y, _ in places], 180, 24, margin=0.08)
    parts = [
        across.grid(16, 184, 198),
        up.rules(44, WIDTH - 10),
        text(WIDTH - 10, 214, x_label, "end plain"),
        text(0, 10, y_label, "plain"),
    ]
    for n, points in enumerate(series.values()):
        tone = f"c{n % len(COLOURS)}"
        parts.append(f'<polyline class="{tone} thin" points="{" ".join(f"{across(x):.1f},{up(y):.1f}" for x, y, _ in points)}"/>')
        for x, y, name in points:
            parts.append(f'<circle class="{tone}" cx="{across(x):.1f}" cy="{up(y):.1f}" r="4"/>')
            parts.append(text(across(x) + 7, up(y) - 5, name, "plain"))
    named, height = legend(list(series) if len(series) > 1 else [], 218)
    return drawing(title, height, [*parts, *named])


def gantt(title: str, spans: Sequence[Span]) -> str:
    """Spans on their lanes over seconds."""
    if not spans:
        return ""
    num_lanes = max(span.lane for span in spans) + 1
    axis = Axis.around([0.0, *(span.end for span in spans)], 62, WIDTH - 10, margin=0.0)
    height = 30 * num_lanes + 36
    parts = [axis.grid(4, height - 32, height - 18), text(WIDTH - 10, height - 3, "seconds", "end plain")]
    parts += [text(0, 30 * lane + 23, f"group {lane}", "plain") for lane in range(num_lanes)]
    for n, span in enumerate(spans):
        x, y = axis(span.start), 30 * span.lane + 8
        width = max(1.5, axis(span.end) - x)
        parts.append(f'<rect class="c{n % len(COLOURS)}" x="{x:.1f}" y="{y}" width="{width:.1f}" height="22" rx="2"/>')
        if width > 7 * len(span.label):
            parts.append(text(x + 6, y + 15, span.label, "on"))
    return drawing(title, height, parts)


def calibration(title: str, curves: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """(predicted, observed) points against the diagonal of a unit square."""
    if not any(curves.values()):
        return ""
    across, up = Axis(0.0, 1.0, 44, WIDTH - 40), Axis(0.0, 1.0, 296, 20)
    parts = [across.grid(20, 296, 312), up.rules(44, WIDTH - 40)]
    parts.append(f'<line class="reference" x1="{across(0):.0f}" y1="{up(0):.0f}" x2="{across(1):.0f}" y2="{up(1):.0f}"/>')
    for n, curve in enumerate(curves.values()):
        path = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in curve)
        parts.append(f'<polyline class="c{n % len(COLOURS)}" points="{path}"/>')
        parts += [f'<circle class="c{n % len(COLOURS)}" cx="{across(x):.1f}" cy="{up(y):.1f}" r="3"/>' for x, y in curve]
    parts += [text(WIDTH - 40, 326, "predicted like-rate", "end plain"), text(0, 10, "observed like-rate", "plain")]
    named, height = legend(list(curves), 330)
    return drawing(title, height, [*parts, *named])


def bars(title: str, rows: Sequence[tuple[str, float, str]]) -> str:
    """Horizontal bars from zero: (label, value, what to write behind it)."""
    largest = max((value for _, value, _ in rows), default=0.0)
    if largest <= 0:
        return ""
    parts = []
    for n, (label, value, note) in enumerate(rows):
        y, width = 26 * n + 4, 140 * value / largest
        parts.append(text(122, y + 14, label, "end plain"))
        parts.append(f'<rect class="c0" x="130" y="{y + 2}" width="{max(width, 1):.1f}" height="16" rx="2"/>')
        parts.append(text(136 + width, y + 14, note, "plain"))
    return drawing(title, 26 * len(rows) + 6, parts)


def groups(title: str, labels: Sequence[tuple[str, str]], series: Mapping[str, Sequence[Bar]], x_label: str) -> str:
    """Dots with intervals, joined by a line, over named groups side by side; a label has two lines."""
    known = [edge for row in series.values() for bar in row for edge in (bar.value, bar.low, bar.high) if edge is not None]
    if not known:
        return ""
    up, step = Axis.around(known, 180, 12), (WIDTH - 50) / len(labels)
    parts = [up.rules(40, WIDTH - 10)]
    for n, (first, second) in enumerate(labels):
        x = 40 + step * (n + 0.5)
        parts += [text(x, 198, first, "middle soft"), text(x, 211, second, "middle soft")]
    for n, row in enumerate(series.values()):
        tone, shift = f"c{n % len(COLOURS)}", 5 * (n - (len(series) - 1) / 2)  # beside each other, not on top
        places = [(40 + step * (at + 0.5) + shift, bar) for at, bar in enumerate(row) if bar.value is not None]
        path = " ".join(f"{x:.1f},{up(bar.value):.1f}" for x, bar in places if bar.value is not None)
        parts.append(f'<polyline class="{tone} thin" points="{path}"/>')
        for x, bar in places:
            if bar.low is not None and bar.high is not None:
                parts.append(f'<line class="{tone}" x1="{x:.1f}" x2="{x:.1f}" y1="{up(bar.low):.1f}" y2="{up(bar.high):.1f}"/>')
            if bar.value is not None:
                parts.append(f'<circle class="{tone}" cx="{x:.1f}" cy="{up(bar.value):.1f}" r="3"/>')
    parts.append(text(WIDTH - 10, 230, x_label, "end plain"))
    named, height = legend(list(series), 234)
    return drawing(title, height, [*parts, *named])


def scatter(title: str, points: Sequence[tuple[float, float, int]], centres: Sequence[tuple[float, float]], names: Sequence[str]) -> str:
    """Small dots coloured by group, and a ring at each group's centre; both axes have one scale."""
    if not points:
        return ""
    everything = [*points, *((x, y, 0) for x, y in centres)]
    reach = max(max(abs(x), abs(y)) for x, y, _ in everything) * 1.06 or 1.0
    across, up = Axis(-reach, reach, 0, WIDTH), Axis(-reach, reach, WIDTH * 0.9, -WIDTH * 0.1)
    top = min(up(y) for _, y, _ in everything) - 10
    parts = [f'<circle class="c{n % len(COLOURS)} faint" cx="{across(x):.1f}" cy="{up(y) - top:.1f}" r="2.4"/>' for x, y, n in points]
    for n, (x, y) in enumerate(centres):
        parts.append(f'<circle class="ring c{n % len(COLOURS)}" cx="{across(x):.1f}" cy="{up(y) - top:.1f}" r="8"/>')
    bottom = max(up(y) for _, y, _ in everything) - top + 12
    named, height = legend(names, bottom)
    return drawing(title, height, [*parts, *named])
