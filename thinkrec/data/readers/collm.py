"""CoLLM's and ThinkRec's published pickles, read once and never again: {train,valid,test}_ood2.pkl, and id2title.json for their titles.

A pickle is a program. This one door runs it with the few names that a data frame is made of; any other name is refused before it is
looked up. The list is of names, not of packages: pandas and numpy hold functions that open files and run text.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING

import pyarrow as pa

from thinkrec.artefacts.ingest import SPLITS
from thinkrec.data.readers.cast import interactions, numbered
from thinkrec.data.readers.files import find
from thinkrec.data.readers.packing import UNREADABLE, File
from thinkrec.data.readers.source import Batch, Source
from thinkrec.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

NUMPY_CORES = ("numpy.core", "numpy._core")  # before and since NumPy 2
ALLOWED = frozenset(
    [
        *((home, name) for home in ("builtins", "__builtin__") for name in ("slice", "bytearray")),
        ("_codecs", "encode"),  # how protocol 2 writes bytes
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        *((f"{core}.multiarray", name) for core in NUMPY_CORES for name in ("_reconstruct", "scalar")),
        *((f"{core}.numeric", "_frombuffer") for core in NUMPY_CORES),
        *(("pandas", name) for name in ("DataFrame", "Index", "RangeIndex")),
        ("pandas.core.frame", "DataFrame"),
        ("pandas.core.indexes.base", "Index"),
        ("pandas.core.indexes.base", "_new_Index"),
        ("pandas.core.indexes.numeric", "Int64Index"),
        ("pandas.core.indexes.range", "RangeIndex"),
        ("pandas.core.internals.blocks", "new_block"),
        ("pandas.core.internals.managers", "BlockManager"),
        ("pandas._libs.internals", "_unpickle_block"),
    ]
)
RENAMED = {("pandas.core.indexes.numeric", "Int64Index"): ("pandas.core.indexes.base", "Index")}  # gone since pandas 2
BROKEN = (*UNREADABLE, pickle.UnpicklingError, AttributeError, ImportError, IndexError, KeyError, MemoryError, TypeError, ValueError)
COLLM_COLUMNS = {"user_id": "uid", "item_id": "iid", "ts": "timestamp", "label": "label"}
FIX = "only the files that CoLLM and ThinkRec publish can be read"


class _FrameUnpickler(pickle.Unpickler):
    def __init__(self, stream: IO[bytes], source: str) -> None:
        super().__init__(stream)
        self._source = source

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in ALLOWED:
            raise DataError(f"the pickle asks for {module}.{name}, which no table needs", self._source, f"do not trust this file; {FIX}")
        return super().find_class(*RENAMED.get((module, name), (module, name)))


def read(path: str) -> Source:
    """The folder or zip archive of one data set; times in seconds, histories left out (they are slices of the log, D38)."""
    frames = {name: load(find(path, f"{name}_ood2.pkl")) for name in SPLITS}
    rows, _ = interactions(numbered(_rows(frames)), path, "s")
    return Source(path, rows, iter([_items(path, frames)]))


def load(file: File) -> pd.DataFrame:
    """The pandas data frame in the pickle; raises DataError that names what the allow-list refuses."""
    import pandas as pd

    try:
        with file.open() as stream:
            frame = _FrameUnpickler(stream, file.name).load()
    except DataError:
        raise
    except BROKEN as error:
        raise DataError(f"this pickle cannot be read: {error}", file.name, FIX) from None
    if not isinstance(frame, pd.DataFrame):
        raise DataError(f"the pickle holds a {type(frame).__name__}, not a data frame", file.name, FIX)
    wrong = [theirs for theirs in COLLM_COLUMNS.values() if theirs in frame.columns and frame[theirs].dtype.kind not in "iu"]
    if wrong:
        raise DataError(f"column {wrong[0]!r} is {frame[wrong[0]].dtype}, expected integers", file.name, FIX)
    missing = [theirs for theirs in COLLM_COLUMNS.values() if theirs not in frame.columns]
    if missing:
        raise DataError(f"column {missing[0]!r} is missing; there are {', '.join(map(str, frame.columns))}", file.name, FIX)
    return frame


def _rows(frames: dict[str, pd.DataFrame]) -> Iterator[Batch]:
    for number, (split, frame) in enumerate(frames.items()):
        columns = {ours: pa.array(frame[theirs].to_numpy()) for ours, theirs in COLLM_COLUMNS.items()}
        yield Batch(pa.table({**columns, "split": pa.array([split] * len(frame), pa.string())}), file=number)


def _items(path: str, frames: dict[str, pd.DataFrame]) -> Batch:
    """Titles from id2title.json, else from the rows; items of histories are rows of the log too, so nothing is missed."""
    if all("title" in frame.columns for frame in frames.values()):
        told: dict[str, dict[str, object]] = {
            str(iid): {"title": str(title)} for frame in frames.values() for iid, title in zip(frame["iid"], frame["title"], strict=True)
        }
    else:
        told = _told(find(path, "id2title.json"))
    ids = sorted({str(iid) for frame in frames.values() for iid in frame["iid"]}, key=lambda iid: (len(iid), iid))
    entries = [told.get(iid, {}) for iid in ids]
    columns = {
        "item_id": pa.array(ids, pa.string()),
        "title": pa.array([_string(entry.get("title")) for entry in entries], pa.string()),
        "text": pa.array([_string(entry.get("description")) for entry in entries], pa.string()),
        "categories": pa.nulls(len(ids), pa.list_(pa.string())),
    }
    return Batch(pa.table(columns))


def _told(file: File) -> dict[str, dict[str, object]]:
    try:
        with file.open() as stream:
            told = json.load(stream)
    except (ValueError, *UNREADABLE) as error:
        raise DataError(f"this cannot be read as JSON: {error}", file.name, FIX) from None
    if not isinstance(told, dict) or not all(isinstance(entry, dict) for entry in told.values()):
        raise DataError("this is not {item: {title: ...}}", file.name, FIX)
    return told


def _string(value: object) -> str | None:
    return value.strip() or None if isinstance(value, str) else None
