"""RecBole atomic files: tab-separated, header `name:type`, in a folder: NAME.inter, or NAME.train.inter, .valid.inter and .test.inter, and
NAME.item. A token_seq parts its words with spaces unless data.separator is set. Histories in the rows (item_id_list) are not read: they are
slices of the log (D38).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import pyarrow as pa

from thinkrec.artefacts.ingest import SPLITS
from thinkrec.config.data import ColumnsSection, DataSection
from thinkrec.data.readers.cast import interactions, numbered
from thinkrec.data.readers.files import ending_in
from thinkrec.data.readers.packing import File
from thinkrec.data.readers.source import Batch, Source
from thinkrec.data.readers.text import LINE, delimited, need
from thinkrec.data.readers.user_columns import to_items
from thinkrec.errors import DataError, MissingFileError

SEPARATOR = " "
TYPES = ("token", "token_seq", "float", "float_seq")


def read(settings: DataSection) -> Source:
    """The columns named in [data.columns], with the split of pre-split files; .user, .kg, .link and .net are not needed."""
    whole = ending_in(settings.path, ".inter")
    parts = {name: ending_in(settings.path, f".{name}.inter") for name in SPLITS}
    items = ending_in(settings.path, ".item")
    if len(items) != 1:
        raise MissingFileError(f"{len(items)} files end in .item; one is needed, with titles", settings.path, "bring NAME.item")
    if len(whole) != 1 and any(len(files) != 1 for files in parts.values()):
        what = f"{len(whole)} files end in .inter; either one is needed, or one each of .train.inter, .valid.inter and .test.inter"
        raise MissingFileError(what, settings.path, "give each data set a folder of its own")
    if len(whole) == 1:
        batches = _inter(whole[0], settings.columns)
    else:
        batches = chain(*(_inter(files[0], settings.columns, name, number) for number, (name, files) in enumerate(parts.items())))
    rows, notes = interactions(batches, settings.path, settings.time_unit)
    return Source(settings.path, numbered(rows), _items(items[0], settings), notes=notes)


def _inter(file: File, columns: ColumnsSection, split: str = "", number: int = 0) -> Iterator[Batch]:
    names = columns.interactions()
    if split:
        names.pop("split")
    for batch in need((batch for _, batch in _atomic(file)), names, file.name, columns.optional()):
        rows = batch.rows
        yield Batch(rows.append_column("split", pa.array([split] * len(rows), pa.string())) if split else rows, batch.bad, number)


def _items(file: File, settings: DataSection) -> Iterator[Batch]:
    """Items; the categories of a column that is called a single `token` are one, unless a separator is set."""
    names = settings.columns.items()
    for kinds, batch in _atomic(file):
        is_one = kinds.get(names["categories"]) == "token" and settings.separator == SEPARATOR
        needed = need(iter([batch]), names, file.name, settings.columns.optional())
        yield from to_items(needed, None if is_one else settings.separator)


def _atomic(file: File) -> Iterator[tuple[dict[str, str], Batch]]:
    """Batches under the plain names of their columns, and the type of each."""
    for batch in delimited(file, "\t", quoted=False):
        fields = [name.rpartition(":") for name in batch.rows.column_names[:-1]]
        for name, _, kind in fields:
            if not name or kind not in TYPES:
                raise DataError(f"header field {name or kind!r} is not name:type", file.name, f"types are {', '.join(TYPES)}")
        kinds = {name: kind for name, _, kind in fields}
        if len(kinds) < len(fields):
            raise DataError("the header line names a column twice", file.name, "write one name a column")
        yield kinds, Batch(batch.rows.rename_columns([*kinds, LINE]), batch.bad)
