"""Axes, legends and type: what every drawing of the report is made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from thinkrec.evaluate.report.style import COLOURS

WIDTH = 360
MAX_LABEL = 22


@dataclass(frozen=True)
class Axis:
    """Linear map of [low, high] to [start, end] units; `end` < `start` is an axis that points up."""

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def around(cls, values: Sequence[float], start: float, end: float, margin: float = 0.04) -> Axis:
        low, high = min(values), max(values)
        room = (high - low) * margin or (0.0 if high > low else max(abs(high), 1.0) * 0.1)
        return cls(low - room, high + room, start, end)

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        rough = (self.high - self.low) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [n * step for n in range(first, math.floor(self.high / step + 1e-9) + 1)]

    def grid(self, top: float, bottom: float, label_y: float) -> str:
        """Vertical lines with numbers below."""
        marks = [f'<line class="grid" x1="{self(t):.1f}" x2="{self(t):.1f}" y1="{top}" y2="{bottom}"/>' for t in self.ticks()]
        return "".join(marks + [text(self(t), label_y, short(t), "middle tick") for t in self.ticks()])

    def rules(self, left: float, right: float) -> str:
        """Horizontal lines with numbers to the left."""
        marks = [f'<line class="grid" x1="{left}" x2="{right}" y1="{self(t):.1f}" y2="{self(t):.1f}"/>' for t in self.ticks()]
        return "".join(marks + [text(left - 6, self(t) + 4, short(t), "end tick") for t in self.ticks()])


def legend(names: Sequence[str], top: float) -> tuple[list[str], float]:
    """Coloured names, two in a row; and the height of the drawing with them."""
    parts = []
    for n, name in enumerate(names):
        x, y = 44 + 158 * (n % 2), top + 14 + 18 * (n // 2)
        parts.append(f'<rect class="c{n % len(COLOURS)}" x="{x}" y="{y - 8}" width="10" height="10" rx="2"/>')
        parts.append(text(x + 16, y + 1, name, "plain"))
    return parts, top + 18 * math.ceil(len(names) / 2) + 10


def short(value: float) -> str:
    return f"{value:.10g}" if abs(value) < 1e4 else f"{value:.3g}"


def text(x: float, y: float, said: str, style: str) -> str:
    """A label, cut where it would leave its place."""
    shown = said if len(said) <= MAX_LABEL else said[: MAX_LABEL - 1] + "\u2026"
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}">{escape(shown)}</text>'


def drawing(title: str, height: float, parts: Sequence[str]) -> str:
    """The whole picture, WIDTH units wide."""
    return f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
