"""Reading any score file: parquet, CSV, TSV, JSON lines or RecBole's atomic files, checked, whole or in parts that can be read apart.

A cell is taken as it is written or refused with its row; nothing is guessed. The rules stand in docs/score-files.md.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence

import polars as pl
import pyarrow as pa
import pyarrow.json
import pyarrow.parquet as pq

from thinkrec.data.readers.packing import UNREADABLE
from thinkrec.data.validate import CONTROLS, NO_IDS
from thinkrec.errors import DataError
from thinkrec.evaluate.score_files.parts import (
    FILE_COLUMNS,
    SEPARATORS,
    Part,
    header_names,
    opened,
    suffix_of,
    text_cells,
    unreadable,
)
from thinkrec.store.address import open_root

IDS = ("user_id", "item_id")
TRUTHS = {"true": "1", "false": "0"}
QUOTED_WHOLE = r'^"(?:[^"]|"")*"$'


def read_part(part: Part) -> pl.DataFrame:
    """The known columns of a part, checked and in the types of FILE_COLUMNS; raises DataError with file, column and row."""
    data = b""
    try:
        if part.row_groups is not None:
            table = _parquet(part, part.row_groups)
        else:
            with opened(part.path) as stream:
                data = stream.read()
            table = _delimited(part.path, data) if suffix_of(part.path) in SEPARATORS else _json_lines(data)
    except DataError:
        raise
    except (pl.exceptions.PolarsError, *UNREADABLE, ValueError) as error:
        raise unreadable(part.path, error, _first_fault(part, data)) from None
    return table.select(check_column(table[given], name, part.path, part.first_row) for name, given in part.there.items())


def _parquet(part: Part, groups: Sequence[int]) -> pl.DataFrame:
    system, base = open_root(part.path)
    with system.open_input_file(base) as file:
        return pl.DataFrame(pq.ParquetFile(file).read_row_groups(list(groups), columns=list(part.there.values())))


def _delimited(path: str, data: bytes) -> pl.DataFrame:
    """The cells as text, or zeros before an id would be lost; lines without a cell are no rows."""
    names, separator = header_names(path, data.partition(b"\n")[0]), SEPARATORS[suffix_of(path)]
    table = pl.read_csv(data, separator=separator, quote_char='"' if separator == "," else None, infer_schema=False)
    table = table.filter(~pl.all_horizontal(pl.all().is_null()))
    columns = {name: cells for name, cells in zip(names, table.get_columns(), strict=True) if name}
    return pl.DataFrame(columns) if separator == "," else pl.DataFrame(columns).with_columns(_unquoted(pl.all()))


def _unquoted(cell: pl.Expr) -> pl.Expr:
    """`text.unquoted`: what a writer with quotes makes of a cell is read, and any other quote of a file parted by tabs is a character."""
    inner = cell.str.slice(1, cell.str.len_chars() - 2).str.replace_all('""', '"', literal=True)
    return pl.when(cell.str.contains(QUOTED_WHOLE)).then(inner).otherwise(cell)


def _json_lines(data: bytes) -> pl.DataFrame:
    """pyarrow refuses a column whose type changes; what is text in the first line stays text, even where it looks like a date."""
    texts = [name for name, value in json.loads(data.partition(b"\n")[0]).items() if isinstance(value, str)]
    options = pyarrow.json.ParseOptions(explicit_schema=pa.schema([(name, pa.string()) for name in texts]))
    table = pyarrow.json.read_json(io.BytesIO(data), parse_options=options)
    table.validate(full=True)  # that texts are UTF-8
    return pl.DataFrame(table)


def check_column(column: pl.Series, name: str, where: str, first_row: int = 0) -> pl.Series:
    """One column in the type that FILE_COLUMNS has for `name`; raises DataError with the row.

    Text is taken for numbers where it is one, and True and False for labels. `first_row`: of the column, among the rows of `where`.
    """
    kind, number = column.dtype, name in ("score", "label")
    wrong = kind.is_nested() or kind.is_temporal() or kind == pl.Binary or (kind == pl.Boolean and name != "label")
    if wrong or ((kind.is_float() or kind.is_decimal()) and not number):
        raise DataError(f"column {column.name!r} holds {kind}", where, "ids are strings or integers, score and label numbers")
    if kind == pl.String and name not in IDS:
        told = column.str.strip_chars()
        told = told.str.to_lowercase().replace(TRUTHS) if name == "label" else told
    else:
        told = column
    value = told.cast(pl.Float64 if number else FILE_COLUMNS[name], strict=False)
    if name == "label":
        good, fix = value.is_in([0.0, 1.0]), "labels are 0 or 1, or True or False"
    elif name == "score":
        good, fix = value.is_finite(), "scores are finite numbers; leave out rows that were not scored"
    elif name in IDS:
        good = (value.str.strip_chars() != "") & ~value.str.contains(CONTROLS) & ~value.is_in(NO_IDS)
        fix = "every row needs its ids: no word for a missing value, no control characters such as tabs and line ends"
    else:
        good, fix = value.is_not_null(), "row numbers are whole numbers, one in every row"
    bad = ~good.fill_null(False)
    if bad.any():
        row = bad.arg_true()[0]
        what = f"column {column.name!r} holds {column[row]!r}; {bad.sum()} such rows"
        raise DataError(what, f"{where}, row {first_row + row + 1}", fix)
    return value.cast(FILE_COLUMNS[name]).alias(name)


def _first_fault(part: Part, data: bytes) -> int | None:
    """The first row, from 1, of a file of text that its reader has refused; None where every row by itself is sound."""
    rows = _csv_faults(part.path, data) if suffix_of(part.path) in SEPARATORS else _json_faults(part, data)
    try:
        return next((number for number, bad in enumerate(rows, 1) if bad), None)
    except (csv.Error, ValueError):  # of the header
        return None


def _csv_faults(path: str, data: bytes) -> Iterator[bool]:
    reader = text_cells(path, data.decode("utf-8-sig", "surrogateescape"))
    width = len(next(reader, []))
    while True:
        try:
            cells = next(reader)
            yield len(cells) > width or not _is_text("".join(cells))
        except csv.Error:
            yield True
        except StopIteration:
            return


def _json_faults(part: Part, data: bytes) -> Iterator[bool]:
    first: dict[str, type] = {}
    for line in filter(bytes.strip, data.split(b"\n")):
        try:
            record = json.loads(line)
            kinds = {name: _kind(record.get(name)) for name in part.there.values()}
        except (ValueError, AttributeError):
            yield True
        else:
            first = first or kinds
            yield kinds != first


def _kind(value: object) -> type:
    return float if isinstance(value, int) and not isinstance(value, bool) else type(value)


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
