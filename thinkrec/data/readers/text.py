"""Delimited files with a header as batches of strings. A line of another form is refused, the rest go on."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TypeVar

import pyarrow as pa

from thinkrec.data.readers.files import lines
from thinkrec.data.readers.headers import RENAME, choose, header
from thinkrec.data.readers.packing import File
from thinkrec.data.readers.source import Batch, refused
from thinkrec.errors import DataError

BATCH_LINES = 16_384
Value = TypeVar("Value")
Cells = tuple[int, list[str], str]  # line, cells, and why they are refused if they are
LINE = ""  # the last column of a delimited file's batch: no column of the file has this name
QUOTING = "a quotation mark is never closed, or not doubled inside a quoted cell"
RETURN = "a carriage return stands inside a cell, or ends a line alone"


def stretches(values: Iterable[Value]) -> Iterator[list[Value]]:
    """The values in lists of at most BATCH_LINES."""
    iterator = iter(values)
    while stretch := list(islice(iterator, BATCH_LINES)):
        yield stretch


def delimited(file: File, delimiter: str = ",", quoted: bool = True) -> Iterator[Batch]:
    """All named columns as strings, UTF-8, and LINE, the number of each; empty cells are null, blank lines nothing.

    quoted: as RFC 4180 has it. Otherwise every quotation mark is a character, but for a cell that is quoted whole, as pandas writes one.
    """
    records = _records(file, delimiter, quoted)
    _, cells, reason = next(records, (0, [], "the file is empty"))
    if reason:
        raise DataError(f"the header line cannot be read: {reason}", file.name, "let the first line name the columns")
    names = header(cells, file.name, delimiter)
    yield _columns(file.name, names, [], delimiter)  # so that a missing column is found in a file without rows
    for stretch in stretches(records):
        yield _columns(file.name, names, stretch, delimiter)


def need(
    batches: Iterator[Batch], names: Mapping[str, str], source: str, optional: Collection[str] = (), fix: str = RENAME
) -> Iterator[Batch]:
    """`row` and the columns `names` (our name -> the file's) under our names; those in `optional` may be missing, else DataError."""
    for batch in batches:
        found = choose(names, batch.rows.column_names[:-1], source, optional, fix)
        yield Batch(
            pa.table({"row": batch.rows[LINE], **{ours: batch.rows[theirs] for ours, theirs in found.items()}}), batch.bad, batch.file
        )


def _records(file: File, delimiter: str, quoted: bool) -> Iterator[Cells]:
    """The rows of a delimited file; the lines that a broken quotation mark has swallowed come one by one, with the reason."""
    taken: list[str] = []  # lines of the row that is being read

    def feed() -> Iterator[str]:
        for _, line in lines(file, keep_ends=True):
            taken.append(line.decode("utf-8", "surrogateescape"))
            yield taken[-1]

    reader = csv.reader(feed(), delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE, strict=True)
    while True:
        taken.clear()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            first = reader.line_num - len(taken) + 1
            reason = RETURN if str(error).startswith("new-line") else QUOTING
            yield from ((row, [line], reason) for row, line in enumerate(taken, first))
            continue
        if any(line.strip() for line in taken):
            yield reader.line_num, cells if quoted else [unquoted(cell) for cell in cells], ""


def unquoted(cell: str) -> str:
    """What stands in a cell that is quoted whole; any other cell as it is."""
    inner = cell[1:-1]
    is_quoted = len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in inner.replace('""', "")
    return inner.replace('""', '"') if is_quoted else cell


def _columns(source: str, names: Sequence[str], stretch: Sequence[Cells], delimiter: str) -> Batch:
    good: list[tuple[int, list[str]]] = []
    bad: list[Cells] = []
    for row, cells, reason in stretch:
        if fault := reason or _fault(cells, len(names)):
            bad.append((row, cells, fault))
        else:
            good.append((row, cells))
    columns = {name: pa.array([cells[n] or None for _, cells in good], pa.string()) for n, name in enumerate(names) if name}
    rows = pa.table({**columns, LINE: pa.array([row for row, _ in good], pa.int64())})
    contents = [delimiter.join(cells).rstrip("\r\n").encode("utf-8", "replace").decode() for _, cells, _ in bad]
    return Batch(rows, refused(source, [row for row, _, _ in bad], [reason for _, _, reason in bad], contents))


def _fault(cells: Sequence[str], num_columns: int) -> str:
    if len(cells) != num_columns:
        return f"not {num_columns} fields, as the header has"
    whole = "".join(cells)
    if not whole.isascii():
        try:
            whole.encode()
        except UnicodeEncodeError:
            return "not UTF-8"
    return ""
