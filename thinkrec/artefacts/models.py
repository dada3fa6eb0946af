"""What lies in every artefact that holds a language model (`base`, `extractor`, `teacher`): model/, the text it was trained on, the log.

`base` alone has base.json, too, which names the user's own folder where the run uses that.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from thinkrec.artefacts.tables import write_table
from thinkrec.store.address import read_json, write_json
from thinkrec.store.artefacts import fetch

MODEL_FOLDER, TEXT_FILE, LOG_FILE, POINTER_FILE = "model", "text.parquet", "log.jsonl", "base.json"
TOKEN_ROWS = pa.schema(  # weights[i] is the weight of predicting ids[i]
    [pa.field("ids", pa.list_(pa.int32()), nullable=False), pa.field("weights", pa.list_(pa.float32()), nullable=False)]
)


def write_pointer(folder: Path, path: str = "", **fingerprint: object) -> None:
    """Write base.json: path or address of the user's own model folder, and its fingerprint; without them the model lies here."""
    write_json(f"{folder}/{POINTER_FILE}", {"path": path, **fingerprint})


def base_model(folder: Path) -> Path:
    """The Hugging Face folder of the run's base: made here, or the user's own; of one at an address this node's copy."""
    pointer = read_json(f"{folder}/{POINTER_FILE}") or {}
    return fetch(pointer["path"]) if pointer.get("path") else folder / MODEL_FOLDER


def write_token_rows(folder: Path, rows: Iterable[tuple[list[int], list[float]]]) -> int:
    """Write (ids, weights) rows; returns how many."""
    pairs = list(rows)
    table = pa.table({"ids": [ids for ids, _ in pairs], "weights": [weights for _, weights in pairs]}, schema=TOKEN_ROWS)
    write_table(folder / TEXT_FILE, table)
    return len(pairs)


def read_token_rows(folder: Path) -> tuple[list[list[int]], list[list[float]]]:
    """Ids and weights of the rows."""
    table = pq.read_table(folder / TEXT_FILE)
    return table["ids"].to_pylist(), table["weights"].to_pylist()
