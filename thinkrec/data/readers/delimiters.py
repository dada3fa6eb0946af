"""What parts the columns of a file of text: the character under which its header line names what is looked for."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence

from thinkrec.data.readers.files import lines
from thinkrec.data.readers.headers import DELIMITERS
from thinkrec.data.readers.packing import File
from thinkrec.errors import DataError


def find_delimiter(file: File, fits: Callable[[Sequence[str]], bool]) -> str:
    """The only one of DELIMITERS under which the names in the header line fit; where none does, the one that makes most names of it.

    Raises DataError where two do, and for what is no text.
    """
    names = names_by_delimiter(file)
    fitting = [one for one in DELIMITERS if fits(names[one])]
    if len(fitting) > 1:
        what = f"the header line names the columns with {' as well as with '.join(DELIMITERS[one] for one in fitting)} between them"
        raise DataError(what, file.name, "write each column's name once, with one delimiter")
    return fitting[0] if fitting else max(DELIMITERS, key=lambda one: len(names[one]))


def names_by_delimiter(file: File) -> dict[str, list[str]]:
    """The names in the first line that is not blank under each of DELIMITERS; none where it cannot be parted."""
    line = next((line for _, line in lines(file) if line.strip()), b"").decode("utf-8", "replace")
    return {one: _names(line, one) for one in DELIMITERS}


def _names(line: str, delimiter: str) -> list[str]:
    try:
        return [name.strip() for name in next(csv.reader([line], delimiter=delimiter), [])]
    except csv.Error:
        return []
