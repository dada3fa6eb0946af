"""Text files as batches of strings: JSON lines, and delimited files with a header. A line of another form is refused, the rest go on."""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

import pyarrow as pa

from thinkrec.data.readers.files import lines
from thinkrec.data.readers.headers import choose, header, missing_columns
from thinkrec.data.readers.packing import File
from thinkrec.data.readers.tables import Batch, refused
from thinkrec.errors import DataError

BATCH_LINES = 16_384
Value = TypeVar("Value")
Record = dict[str, Any]
Cells = tuple[int, list[str], str]  # line, cells, and why they are refused if they are
LINE = ""  # the last column of a delimited file's batch: no column of the file has this name
QUOTING = "a quotation mark is never closed, or not doubled inside a quoted cell"
RETURN = "a carriage return stands inside a cell, or ends a line alone"


def stretches(values: Iterable[Value]) -> Iterator[list[Value]]:
    """The values in lists of at most BATCH_LINES."""
    iterator = iter(values)
    while stretch := list(islice(iterator, BATCH_LINES)):
        yield stretch


def json_records(file: File) -> Iterator[tuple[list[tuple[int, Record]], pa.Table]]:
    """Numbered objects, one a line, and the lines that are none; blank lines are nothing."""
    for stretch in stretches((row, line) for row, line in lines(file) if line.strip()):
        good: list[tuple[int, Record]] = []
        bad: list[tuple[int, bytes, str]] = []
        for row, line in stretch:
            try:
                record = json.loads(line.decode())
            except (ValueError, RecursionError):
                record = None
            if isinstance(record, dict):
                good.append((row, record))
            else:
                bad.append((row, line, _why(line)))
        contents = [line.decode("utf-8", "replace") for _, line, _ in bad]
        yield good, refused(file.name, [row for row, _, _ in bad], [reason for _, _, reason in bad], contents)


def json_columns(files: Sequence[File], names: Mapping[str, str], optional: Collection[str] = ()) -> Iterator[Batch]:
    """Our name -> key of the object, as columns of strings; `categories` of lists of strings where a list stands in the stretch.

    A key that is not there, and a value that is neither text nor number, is null. Raises DataError for a key that no object of all files
    has, unless it is in `optional`.
    """
    unseen = {ours: theirs for ours, theirs in names.items() if ours not in optional}
    there: Collection[str] = ()
    for file in files:
        for records, bad in json_records(file):
            columns = {ours: _column([record.get(theirs) for _, record in records], ours) for ours, theirs in names.items()}
            yield Batch(pa.table({"row": pa.array([row for row, _ in records], pa.int64()), **columns}), bad)
            unseen = {ours: theirs for ours, theirs in unseen.items() if not any(theirs in record for _, record in records)}
            there = records[0][1] if records else there
    if unseen and there:
        raise missing_columns(list(unseen.values()), list(there), files[0].name, "name the keys as they are called here in [data.columns]")


def delimited(file: File, delimiter: str = ",", quoted: bool = True) -> Iterator[Batch]:
    """All named columns as strings, UTF-8, and LINE, the number of each; empty cells are null, blank lines nothing.

    quoted: as RFC 4180 has it. Otherwise every quotation mark is a character, but for a cell that is quoted whole, as pandas writes one.
    """
    records = _records(file, delimiter, quoted)
    _, cells, reason = next(records, (0, [], "the file is empty"))
    if reason:
        raise DataError(f"the header line cannot be read: {reason}", file.name, "let the first line name the columns")
    names = header(cells, file.name, delimiter)
    yield _columns(file.name, names, [])  # so that a missing column is found in a file without rows
    for stretch in stretches(records):
        yield _columns(file.name, names, stretch)


def need(batches: Iterator[Batch], names: Mapping[str, str], source: str, optional: Collection[str] = ()) -> Iterator[Batch]:
    """`row` and the columns `names` (our name -> the file's) under our names; those in `optional` may be missing, else DataError."""
    for batch in batches:
        found = choose(names, batch.rows.column_names[:-1], source, optional)
        yield Batch(pa.table({"row": batch.rows[LINE], **{ours: batch.rows[theirs] for ours, theirs in found.items()}}), batch.bad)


def strings(values: Sequence[str | None]) -> pa.Array:
    """A string column; half characters, which JSON can write and UTF-8 cannot, become question marks."""
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:
        return pa.array([value and value.encode("utf-8", "replace").decode() for value in values], pa.string())


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
            yield reader.line_num, cells if quoted else [_unquoted(cell) for cell in cells], ""


def _unquoted(cell: str) -> str:
    inner = cell[1:-1]
    is_quoted = len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in inner.replace('""', "")
    return inner.replace('""', '"') if is_quoted else cell


def _columns(source: str, names: Sequence[str], stretch: Sequence[Cells]) -> Batch:
    good: list[tuple[int, list[str]]] = []
    bad: list[Cells] = []
    for row, cells, reason in stretch:
        if fault := reason or _fault(cells, len(names)):
            bad.append((row, cells, fault))
        else:
            good.append((row, cells))
    columns = {name: pa.array([cells[n] or None for _, cells in good], pa.string()) for n, name in enumerate(names) if name}
    rows = pa.table({**columns, LINE: pa.array([row for row, _ in good], pa.int64())})
    contents = [",".join(cells).rstrip("\r\n").encode("utf-8", "replace").decode() for _, cells, _ in bad]
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


def _why(line: bytes) -> str:
    """Why a line is no JSON object."""
    begins = line.lstrip()[:3]
    if begins.startswith(b"["):
        return "not a JSON object but a list: write one object a line"
    if begins.startswith((b"{'", b"{u'")):
        return "not a JSON object but a Python dictionary: json.dumps writes JSON"
    try:
        line.decode()
    except UnicodeDecodeError:
        return "not UTF-8"
    return "not a JSON object"


def _column(values: Sequence[Any], ours: str) -> pa.Array:
    if ours == "categories" and any(isinstance(value, list) for value in values):
        lists = [value if isinstance(value, list) else [value] for value in values]
        words = [[text for part in value if (text := _scalar(part))] or None for value in lists]
        return pa.array(words, pa.list_(pa.string()))
    if ours == "label":
        values = [int(value) if isinstance(value, bool) else value for value in values]
    if ours == "text":
        values = [" ".join(filter(None, map(_scalar, value))) if isinstance(value, list) else value for value in values]
    return strings([_scalar(value) for value in values])


def _scalar(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) and value == value else None
