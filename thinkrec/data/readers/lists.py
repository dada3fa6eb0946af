"""Lists that stand in one cell: parted by data.separator, or as JSON or Python writes them, which is how pandas leaves them in a CSV."""

from __future__ import annotations

import ast
import json

import polars as pl

MAX_LITERAL = 10_000  # characters of a cell that may be read as a Python literal


def split_lists(cells: pl.Series, separator: str | None) -> pl.Series:
    """Texts -> lists of words without blanks around them; null where no word is left. No separator: a cell is one word."""
    return pl.Series(cells.name, [_words(cell, separator) for cell in cells], dtype=pl.List(pl.String))


def _words(cell: str | None, separator: str | None) -> list[str] | None:
    if cell is None:
        return None
    written = _literal(cell.strip())
    parts = written if isinstance(written, list) else cell.split(separator) if separator else [cell]
    return [word for part in parts if isinstance(part, str) and (word := part.strip())] or None


def _literal(text: str) -> object:
    """A list as JSON or Python writes it; None for any other text. Nothing is looked up or called."""
    if not (text.startswith("[") and text.endswith("]")):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text) if len(text) <= MAX_LITERAL else None
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
