"""Pieces of HTML that every section is made of. Whatever comes from data is escaped here or by the caller with `escape`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from thinkrec.evaluate.report.format import plain
from thinkrec.evaluate.report.style import STYLE

MAX_STACKED = 4
# The browser itself refuses whatever a page would fetch or run.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def document(title: str, header: str, bodies: Mapping[str, str]) -> str:
    """A whole page: its header, contents and sections by heading; empty sections are left out."""
    written = {heading: body for heading, body in bodies.items() if body}
    contents = "".join(f'<a href="#{anchor(heading)}">{escape(heading)}</a>' for heading in written)
    sections = "".join(section(heading, body) for heading, body in written.items())
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"/><meta name="viewport" content="width=device-width, initial-scale=1"/>'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"/>'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><main>{header}<nav>{contents}</nav>{sections}</main></body></html>\n"
    )


def section(heading: str, body: str) -> str:
    """A heading, to which the contents can point, with what stands below it."""
    return f'<section id="{anchor(heading)}"><h2>{escape(heading)}</h2>{body}</section>'


def anchor(heading: str) -> str:
    """The name of a heading inside the page."""
    return "".join(letter if letter.isalnum() else "-" for letter in heading.lower())


def paragraph(text: str, style: str = "") -> str:
    """Escaped text."""
    return f'<p class="{style}">{escape(text)}</p>' if style else f"<p>{escape(text)}</p>"


def table(head: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    """Cells that are ready HTML, in rows (class, cells).

    On a phone a row of up to MAX_STACKED figures stands on two lines, its name above them; a wider table scrolls inside its own box.
    """
    kind = "figures" if len(head) <= MAX_STACKED + 1 else "broad"
    body = "".join(f'<tr class="{style}">{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>' for style, cells in rows)
    names = "".join(f"<th>{cell}</th>" for cell in head)
    return f'<div class="wide"><table class="{kind}" style="--columns:{len(head) - 1}"><tr>{names}</tr>{body}</table></div>'


def plots(*drawn: tuple[str, str]) -> str:
    """(heading, svg) side by side where there is room; empty drawings are left out."""
    return '<div class="plots">' + "".join(f"<div><h3>{escape(heading)}</h3>{svg}</div>" for heading, svg in drawn if svg) + "</div>"


def tiles(facts: Sequence[tuple[str, str]]) -> str:
    """Large figures with a small name."""
    return '<div class="tiles">' + "".join(f"<div><small>{escape(name)}</small>{escape(value)}</div>" for name, value in facts) + "</div>"


def tree(value: Mapping[str, object]) -> str:
    """Any JSON object as a two-column table, nested keys joined by dots."""
    body = "".join(f"<tr><td>{escape(name)}</td><td>{escape(text)}</td></tr>" for name, text in _flat(value))
    return f'<table class="facts">{body}</table>'


def cards(contents: Sequence[str]) -> str:
    """Boxes side by side."""
    return '<div class="cards">' + "".join(f'<div class="card">{content}</div>' for content in contents) + "</div>" if contents else ""


def chips(texts: Sequence[str]) -> str:
    """Short facts in a row."""
    return "".join(f'<span class="chip">{escape(text)}</span>' for text in texts)


def folded(summary: str, *parts: str) -> str:
    """Something to open."""
    return f"<details><summary>{escape(summary)}</summary>{''.join(parts)}</details>"


def _flat(value: object, name: str = "") -> list[tuple[str, str]]:
    if isinstance(value, Mapping):
        return [pair for key, below in value.items() for pair in _flat(below, f"{name}.{key}" if name else str(key))]
    if isinstance(value, list):
        return [(name, ", ".join(plain(entry) for entry in value) or "none")]
    return [(name, plain(value))]
