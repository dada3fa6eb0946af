"""Text files as batches of strings: JSON lines, and delimited files with a header. A line of another form is refused, the rest go on."""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

import pyarrow as pa

from thinkrec.data.readers.files import File, lines
from thinkrec.data.readers.tables import Batch, refused
from thinkrec.errors import DataError

BATCH_LINES = 16_384
Value = TypeVar("Value")
Record = dict[str, Any]


def stretches(values: Iterable[Value]) -> Iterator[list[Value]]:
    """The values in lists of at most BATCH_LINES."""
    iterator = iter(values)
    while stretch := list(islice(iterator, BATCH_LINES)):
        yield stretch


def json_records(file: File) -> Iterator[tuple[list[tuple[int, Record]], pa.Table]]:
    """Numbered objects, one a line, and the lines that are none."""
    for stretch in stretches(lines(file)):
        good: list[tuple[int, Record]] = []
        bad: list[tuple[int, bytes]] = []
        for row, line in stretch:
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                record = None
            if isinstance(record, dict):
                good.append((row, record))
            else:
                bad.append((row, line))
        contents = [line.decode("utf-8", "replace") for _, line in bad]
        yield good, refused(file.name, [row for row, _ in bad], ["not a JSON object"] * len(bad), contents)


def json_columns(file: File, names: Mapping[str, str]) -> Iterator[Batch]:
    """Our name -> key of the object, as columns of strings, or of lists of strings where a list stands in the stretch.

    A key that is not there, and a value that is neither text nor number, is null.
    """
    for records, bad in json_records(file):
        columns = {ours: _column([record.get(theirs) for _, record in records]) for ours, theirs in names.items()}
        yield Batch(pa.table({"row": pa.array([row for row, _ in records], pa.int64()), **columns}), bad)


def delimited(file: File, delimiter: str = ",", quoted: bool = True) -> Iterator[Batch]:
    """All columns as strings under the names of the header line, UTF-8; empty cells are null."""
    decoded = (line.decode("utf-8", "surrogateescape") + "\n" for _, line in lines(file))
    reader = csv.reader(decoded, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE)
    try:
        header = [name.removeprefix("\ufeff").strip() for name in next(reader, [])]
        if not header or len(set(header)) < len(header):
            raise DataError(f"the header line names no columns, or one twice: {header}", file.name, "write one name a column")
        yield _columns(file.name, header, [])  # so that a missing column is found in a file without rows
        for stretch in stretches((reader.line_num, cells) for cells in reader):
            yield _columns(file.name, header, stretch)
    except csv.Error as error:
        where = f"{file.name}, line {reader.line_num}"
        raise DataError(f"this is not the text of a table: {error}", where, "look for a quote that is never closed") from None


def need(batches: Iterator[Batch], names: Mapping[str, str], source: str, optional: Collection[str] = ()) -> Iterator[Batch]:
    """`row` and the columns `names` (our name -> the file's) under our names; those in `optional` may be missing, else DataError."""
    for batch in batches:
        there = batch.rows.column_names
        missing = [theirs for ours, theirs in names.items() if theirs not in there and ours not in optional]
        if missing:
            raise DataError(f"column {missing[0]!r} is missing; there are {', '.join(there[:-1])}", source, "name it in [data.columns]")
        found = {ours: theirs for ours, theirs in names.items() if theirs in there}
        yield Batch(pa.table({"row": batch.rows["row"], **{ours: batch.rows[theirs] for ours, theirs in found.items()}}), batch.bad)


def strings(values: Sequence[str | None]) -> pa.Array:
    """A string column; half characters, which JSON can write and UTF-8 cannot, become question marks."""
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:
        return pa.array([value and value.encode("utf-8", "replace").decode() for value in values], pa.string())


def _columns(source: str, header: Sequence[str], stretch: Sequence[tuple[int, list[str]]]) -> Batch:
    good: list[tuple[int, list[str]]] = []
    bad: list[tuple[int, str, str]] = []
    for row, cells in stretch:
        reason = _fault(cells, len(header))
        if reason:
            bad.append((row, reason, ",".join(cells).encode("utf-8", "replace").decode()))
        else:
            good.append((row, cells))
    columns = {name: pa.array([cells[n] or None for _, cells in good], pa.string()) for n, name in enumerate(header)}
    rows = pa.table({**columns, "row": pa.array([row for row, _ in good], pa.int64())})  # last: a file may have a column of this name
    return Batch(rows, refused(source, [row for row, _, _ in bad], [reason for _, reason, _ in bad], [content for _, _, content in bad]))


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


def _column(values: Sequence[Any]) -> pa.Array:
    if not any(isinstance(value, list) for value in values):
        return strings([_scalar(value) for value in values])
    lists = [value if isinstance(value, list) else [value] for value in values]
    words = [[text for part in value if (text := _scalar(part))] or None for value in lists]
    return pa.array(words, pa.list_(pa.string()))


def _scalar(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
