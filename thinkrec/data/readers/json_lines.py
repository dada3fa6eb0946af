"""JSON lines as batches of strings. A line that is no object is refused, the rest go on."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence

import pyarrow as pa

from thinkrec.data.readers.files import lines
from thinkrec.data.readers.headers import missing_columns
from thinkrec.data.readers.packing import File
from thinkrec.data.readers.source import Batch, refused
from thinkrec.data.readers.text import stretches

Record = dict[str, object]


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
    for number, file in enumerate(files):
        for records, bad in json_records(file):
            columns = {ours: _column([record.get(theirs) for _, record in records], ours) for ours, theirs in names.items()}
            yield Batch(pa.table({"row": pa.array([row for row, _ in records], pa.int64()), **columns}), bad, number)
            unseen = {ours: theirs for ours, theirs in unseen.items() if not any(theirs in record for _, record in records)}
            there = records[0][1] if records else there
    if unseen and there:
        raise missing_columns(list(unseen.values()), list(there), files[0].name, "name the keys as they are called here in [data.columns]")


def strings(values: Sequence[str | None]) -> pa.Array:
    """A string column; half characters, which JSON can write and UTF-8 cannot, become question marks."""
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:
        return pa.array([value and value.encode("utf-8", "replace").decode() for value in values], pa.string())


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


def _column(values: Sequence[object], ours: str) -> pa.Array:
    if ours == "categories" and any(isinstance(value, list) for value in values):
        lists = [value if isinstance(value, list) else [value] for value in values]
        words = [[text for part in value if (text := _scalar(part))] or None for value in lists]
        return pa.array(words, pa.list_(pa.string()))
    if ours == "label":
        values = [int(value) if isinstance(value, bool) else value for value in values]
    if ours == "text":
        values = [" ".join(filter(None, map(_scalar, value))) if isinstance(value, list) else value for value in values]
    return strings([_scalar(value) for value in values])


def _scalar(value: object) -> str | None:
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) and value == value else None
