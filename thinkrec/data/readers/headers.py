"""The names of a table's columns: faults of a header line, and a column that is not there beside those that are."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence

from thinkrec.errors import DataError

DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
RENAME = "name the columns as they are called here in [data.columns]"


def missing_columns(names: Sequence[str], there: Sequence[str], source: str, fix: str) -> DataError:
    """The error for columns that are not there, with the nearest names."""
    like = {plain(other): other for other in there}
    near = [like[found[0]] for name in names if (found := difflib.get_close_matches(plain(name), like, n=1, cutoff=0.6))]
    hint = f"; did you mean {' and '.join(map(repr, near))}?" if near else ""
    if there and all(_is_number(other) for other in there):
        fix = "the first line holds values, not names: put a line of names above it"
    missing = ", ".join(f"column {name!r} is missing" for name in names)
    return DataError(f"{missing}; there are {', '.join(there)}{hint}", source, fix)


def choose(
    names: Mapping[str, str], there: Sequence[str], source: str, optional: Collection[str] = (), fix: str = RENAME
) -> dict[str, str]:
    """Of our name -> the file's those that are there; raises DataError for missing ones that are not in `optional`."""
    if missing := [theirs for ours, theirs in names.items() if theirs not in there and ours not in optional]:
        raise missing_columns(missing, there, source, fix)
    return {ours: theirs for ours, theirs in names.items() if theirs in there}


def header(cells: Sequence[str], source: str, delimiter: str) -> list[str]:
    """The names in a header line, in order; those of no name are empty. Raises DataError for a line that cannot be one."""
    names = [cell.strip() for cell in cells]
    if not any(names):
        raise DataError("the header line names no columns", source, "let the first line name the columns")
    doubled = [name for name in names if name and names.count(name) > 1]
    if doubled:
        raise DataError(f"the header line names {doubled[0]!r} twice", source, "write one name a column")
    try:
        "".join(names).encode()
    except UnicodeEncodeError:
        raise DataError("the header line is not UTF-8", source, "save the file again as UTF-8") from None
    other = next((one for one in DELIMITERS if one != delimiter and one in names[0]), None)
    if len(names) == 1 and other:
        what = f"the header line has {DELIMITERS[other]} where {DELIMITERS[delimiter]} should stand"
        raise DataError(what, source, f"write the file with {DELIMITERS[delimiter]} between its columns")
    return names


def plain(name: str) -> str:
    """A column's name without case and marks: user_id, userId and "User ID" are one."""
    return "".join(filter(str.isalnum, name.casefold()))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
