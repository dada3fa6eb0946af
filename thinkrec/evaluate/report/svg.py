"""Plots as inline SVG: pure functions from numbers to text, 360 units wide so that their type stays readable on a phone.

Colours and type come from the page's style sheet through class names; every label is escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from thinkrec.evaluate.report.style import COLOURS

WIDTH = 360
MAX_LABEL = 20


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
    axis = _Axis.around(known, 118, WIDTH - 44)
    height = 24 * len(rows) + 26
    parts = [axis.grid(6, height - 22, height - 8)]
    if reference is not None:
        parts.append(f'<line class="reference" x1="{axis(reference):.1f}" x2="{axis(reference):.1f}" y1="4" y2="{height - 22}"/>')
    for n, row in enumerate(rows):
        y, tone = 18 + 24 * n, "strong" if row.strong else "plain"
        parts.append(_text(110, y + 4, row.label, f"end {tone}"))
        if row.value is None:
            parts.append(_text(126, y + 4, "not defined", "plain"))
            continue
        if row.low is not None and row.high is not None:
            parts.append(f'<line class="range {tone}" x1="{axis(row.low):.1f}" x2="{axis(row.high):.1f}" y1="{y}" y2="{y}"/>')
        parts.append(f'<circle class="{tone}" cx="{axis(row.value):.1f}" cy="{y}" r="4"/>')
        parts.append(_text(WIDTH, y + 4, f"{row.value:.3f}", f"end {tone}"))
    return _svg(title, height, parts)


def lines(title: str, series: Mapping[str, Sequence[tuple[float, float]]], x_label: str, y_label: str) -> str:
    """Curves over one pair of axes, with a legend below; the first six of them tell well apart."""
    points = [point for curve in series.values() for point in curve if math.isfinite(point[1])]
    if not points:
        return ""
    across = _Axis.around([x for x, _ in points], 44, WIDTH - 10)
    up = _Axis.around([y for _, y in points], 180, 18)
    parts = [across.grid(10, 184, 198), up.rules(44, WIDTH - 10)]
    for n, curve in enumerate(series.values()):
        path = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in curve if math.isfinite(y))
        parts.append(f'<polyline class="c{n % len(COLOURS)}" points="{path}"/>')
    parts += [_text(WIDTH - 10, 212, x_label, "end plain"), _text(0, 10, y_label, "plain")]
    legend, height = _legend(list(series) if len(series) > 1 else [], 216)
    return _svg(title, height, [*parts, *legend])


def gantt(title: str, spans: Sequence[Span]) -> str:
    """Spans on their lanes over seconds."""
    if not spans:
        return ""
    num_lanes = max(span.lane for span in spans) + 1
    axis = _Axis.around([0.0, *(span.end for span in spans)], 62, WIDTH - 10, margin=0.0)
    height = 30 * num_lanes + 36
    parts = [axis.grid(4, height - 32, height - 18), _text(WIDTH - 10, height - 3, "seconds", "end plain")]
    parts += [_text(0, 30 * lane + 23, f"group {lane}", "plain") for lane in range(num_lanes)]
    for n, span in enumerate(spans):
        x, y = axis(span.start), 30 * span.lane + 8
        width = max(1.5, axis(span.end) - x)
        parts.append(f'<rect class="c{n % len(COLOURS)}" x="{x:.1f}" y="{y}" width="{width:.1f}" height="22" rx="2"/>')
        if width > 7 * len(span.label):
            parts.append(_text(x + 6, y + 15, span.label, "on"))
    return _svg(title, height, parts)


def calibration(title: str, curves: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """(predicted, observed) points against the diagonal of a unit square."""
    if not any(curves.values()):
        return ""
    across, up = _Axis(0.0, 1.0, 44, WIDTH - 40), _Axis(0.0, 1.0, 296, 20)
    parts = [across.grid(20, 296, 312), up.rules(44, WIDTH - 40)]
    parts.append(f'<line class="reference" x1="{across(0):.0f}" y1="{up(0):.0f}" x2="{across(1):.0f}" y2="{up(1):.0f}"/>')
    for n, curve in enumerate(curves.values()):
        path = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in curve)
        parts.append(f'<polyline class="c{n % len(COLOURS)}" points="{path}"/>')
        parts += [f'<circle class="c{n % len(COLOURS)}" cx="{across(x):.1f}" cy="{up(y):.1f}" r="3"/>' for x, y in curve]
    parts += [_text(WIDTH - 40, 326, "predicted like-rate", "end plain"), _text(0, 10, "observed like-rate", "plain")]
    legend, height = _legend(list(curves), 330)
    return _svg(title, height, [*parts, *legend])


def bars(title: str, rows: Sequence[tuple[str, float, str]]) -> str:
    """Horizontal bars from zero: (label, value, what to write behind it)."""
    largest = max((value for _, value, _ in rows), default=0.0)
    if largest <= 0:
        return ""
    parts = []
    for n, (label, value, note) in enumerate(rows):
        y, width = 26 * n + 4, 130 * value / largest
        parts.append(_text(90, y + 14, label, "end plain"))
        parts.append(f'<rect class="c0" x="98" y="{y + 2}" width="{max(width, 1):.1f}" height="16" rx="2"/>')
        parts.append(_text(104 + width, y + 14, note, "plain"))
    return _svg(title, 26 * len(rows) + 6, parts)


@dataclass(frozen=True)
class _Axis:
    """Linear map of [low, high] to [start, end] units; `end` < `start` is an axis that points up."""

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def around(cls, values: Sequence[float], start: float, end: float, margin: float = 0.04) -> _Axis:
        low, high = min(values), max(values)
        room = (high - low) * margin or (0.0 if high > low else max(abs(high), 1.0) * 0.1)
        return cls(low - room, high + room, start, end)

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        rough = (self.high - self.low) / 4
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [n * step for n in range(first, math.floor(self.high / step + 1e-9) + 1)]

    def grid(self, top: float, bottom: float, label_y: float) -> str:
        """Vertical lines with numbers below."""
        marks = [f'<line class="grid" x1="{self(t):.1f}" x2="{self(t):.1f}" y1="{top}" y2="{bottom}"/>' for t in self.ticks()]
        return "".join(marks + [_text(self(t), label_y, _short(t), "middle tick") for t in self.ticks()])

    def rules(self, left: float, right: float) -> str:
        """Horizontal lines with numbers to the left."""
        marks = [f'<line class="grid" x1="{left}" x2="{right}" y1="{self(t):.1f}" y2="{self(t):.1f}"/>' for t in self.ticks()]
        return "".join(marks + [_text(left - 6, self(t) + 4, _short(t), "end tick") for t in self.ticks()])


def _legend(names: Sequence[str], top: float) -> tuple[list[str], float]:
    """Coloured names, two in a row; and the height of the drawing with them."""
    parts = []
    for n, name in enumerate(names):
        x, y = 44 + 158 * (n % 2), top + 14 + 18 * (n // 2)
        parts.append(f'<rect class="c{n % len(COLOURS)}" x="{x}" y="{y - 8}" width="10" height="10" rx="2"/>')
        parts.append(_text(x + 16, y + 1, name, "plain"))
    return parts, top + 18 * math.ceil(len(names) / 2) + 10


def _short(value: float) -> str:
    return f"{value:.10g}" if abs(value) < 1e4 else f"{value:.3g}"


def _text(x: float, y: float, text: str, style: str) -> str:
    shown = text if len(text) <= MAX_LABEL else text[: MAX_LABEL - 1] + "\u2026"
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}">{escape(shown)}</text>'


def _svg(title: str, height: float, parts: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
