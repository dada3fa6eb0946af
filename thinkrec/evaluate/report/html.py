"""Pieces of HTML that every section is made of. Whatever comes from data is escaped here or by the caller with `escape`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any


def section(heading: str, *parts: str) -> str:
    """A heading with what stands below it."""
    return f"<section><h2>{escape(heading)}</h2>{''.join(parts)}</section>"


def paragraph(text: str, style: str = "") -> str:
    """Escaped text."""
    return f'<p class="{style}">{escape(text)}</p>' if style else f"<p>{escape(text)}</p>"


def table(head: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    """Cells that are ready HTML, in rows (class, cells); on a phone each row stands on two lines, its name above its figures."""
    body = "".join(f'<tr class="{style}">{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>' for style, cells in rows)
    names = "".join(f"<th>{cell}</th>" for cell in head)
    return f'<div class="wide"><table class="figures" style="--columns:{len(head) - 1}"><tr>{names}</tr>{body}</table></div>'


def plots(*drawn: tuple[str, str]) -> str:
    """(heading, svg) side by side where there is room; empty drawings are left out."""
    return '<div class="plots">' + "".join(f"<div><h3>{escape(heading)}</h3>{svg}</div>" for heading, svg in drawn if svg) + "</div>"


def tiles(facts: Sequence[tuple[str, str]]) -> str:
    """Large figures with a small name."""
    return '<div class="tiles">' + "".join(f"<div><small>{escape(name)}</small>{escape(value)}</div>" for name, value in facts) + "</div>"


def tree(value: Mapping[str, Any]) -> str:
    """Any JSON object as a two-column table, nested keys joined by dots."""
    body = "".join(f"<tr><td>{escape(name)}</td><td>{escape(text)}</td></tr>" for name, text in _flat(value))
    return f'<table class="facts">{body}</table>'


def folded(summary: str, *parts: str) -> str:
    """Something to open."""
    return f"<details><summary>{escape(summary)}</summary>{''.join(parts)}</details>"


def _flat(value: Any, name: str = "") -> list[tuple[str, str]]:
    if isinstance(value, Mapping):
        return [pair for key, below in value.items() for pair in _flat(below, f"{name}.{key}" if name else str(key))]
    if isinstance(value, list):
        return [(name, ", ".join(_plain(entry) for entry in value) or "none")]
    return [(name, _plain(value))]


def _plain(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
