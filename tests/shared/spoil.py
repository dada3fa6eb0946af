"""What a case of bad input is made of: a way to spoil a sound folder, the words of the command, and what it must say. Not a test itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

USER, ENVIRONMENT, RUN = 2, 3, 4  # exit codes, docs/design.md 9
NAN = float("nan")
Spoiler = Callable[[Path], Any]


class Case(NamedTuple):
    """`spoil` a sound folder, run `thinkrec <words>`: the message must match `says`, and the exit code be `code`."""

    spoil: Spoiler
    words: tuple[str, ...]
    says: str  # a regular expression
    code: int = USER


def until(stage: str, *overrides: str) -> tuple[str, ...]:
    """The words of a run that ends with this stage."""
    return ("run", "run.toml", "--until", stage, *(word for override in overrides for word in ("--set", override)))


INGEST, ENCODE = until("ingest"), until("encode")


def nothing(folder: Path) -> None:
    """A spoiler that spoils nothing: the words of the command are wrong."""


def table(name: str, change: Callable[[pl.DataFrame], pl.DataFrame]) -> Spoiler:
    """The Parquet file of this name, changed."""

    def spoil(folder: Path) -> None:
        path = folder / "given" / f"{name}.parquet"
        change(pl.read_parquet(path)).write_parquet(path)

    return spoil


def cell(name: str, column: str, value: Any, row: int = 3) -> Spoiler:
    """One cell of a table."""
    changed = pl.when(pl.int_range(pl.len()) == row).then(pl.lit(value)).otherwise(pl.col(column)).alias(column)
    return table(name, lambda t: t.with_columns(changed))


def column(name: str, **values: Any) -> Spoiler:
    """Whole columns of a table."""
    return table(
        name, lambda t: t.with_columns(**{key: value if isinstance(value, pl.Expr) else pl.lit(value) for key, value in values.items()})
    )


def text(name: str, change: str | Callable[[str], str]) -> Spoiler:
    """A text file, rewritten."""

    def spoil(folder: Path) -> None:
        path = folder / name
        path.write_text(change if isinstance(change, str) else change(path.read_text(encoding="latin-1")), encoding="latin-1")

    return spoil


def content(name: str, change: bytes | Callable[[bytes], bytes]) -> Spoiler:
    """The bytes of a file, which need not be there before."""
    return lambda folder: (folder / name).write_bytes(change if isinstance(change, bytes) else change((folder / name).read_bytes()))


def gone(name: str) -> Spoiler:
    """A file, removed."""
    return lambda folder: (folder / name).unlink()


def cut_short(whole: bytes) -> bytes:
    return whole[: len(whole) // 2]


def flipped(whole: bytes) -> bytes:
    """Every bit of a stretch near the end turned over: Parquet keeps its own description there."""
    return whole[:-72] + bytes(255 - byte for byte in whole[-72:-8]) + whole[-8:]
