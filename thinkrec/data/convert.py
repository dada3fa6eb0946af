"""Files in, files out: CoLLM's pickles to the canonical layout, and an ingest artefact to RecBole's atomic files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import polars as pl

from thinkrec.artefacts.ingest import ITEMS_FILE, SPLITS, bucket_files, read_items
from thinkrec.artefacts.tables import write_table
from thinkrec.data.readers import canonical, collm
from thinkrec.data.readers.source import collect
from thinkrec.errors import ConfigError, MissingFileError
from thinkrec.store.address import check_name

INTER_FIELDS = {"user_id": "token", "item_id": "token", "rating": "float", "timestamp": "float", "label": "float"}
ITEM_FIELDS = {"item_id": "token", "title": "token_seq", "text": "token_seq", "categories": "token_seq"}
BLANKS = r"\s+"


def import_collm(source: str, folder: Path) -> dict[str, int]:
    """Write interactions.parquet and items.parquet for `data.source = "canonical"` with `split.mode = "given"`; returns the counts."""
    tables = collect(collm.read(source))
    _refuse_full(folder)
    write_table(folder / canonical.INTERACTIONS_FILE, tables.interactions.drop_columns(["row"]))
    write_table(folder / canonical.ITEMS_FILE, tables.items)
    return {"interactions": tables.interactions.num_rows, "items": tables.items.num_rows, "refused": tables.quarantine.num_rows}


def export_recbole(ingest: Path, folder: Path, name: str) -> dict[str, int]:
    """Write NAME.{train,valid,test}.inter and NAME.item from an ingest artefact, one bucket in memory at a time; returns rows by file.

    Times become seconds. White space in titles and texts becomes one space, and spaces within a category an underscore: RecBole parts
    fields by tabs and words by spaces. A field with a quotation mark is quoted, for RecBole reads these files with pandas, which would take
    a title that begins with one for an open quote. RecBole counts one user and one item more, its padding.
    """
    buckets = bucket_files(ingest)
    if not buckets or not (ingest / ITEMS_FILE).is_file():
        raise MissingFileError("this is not an ingest artefact", str(ingest), "name RUN_DIR/ingest/KEY")
    _refuse_full(folder)
    folder = folder / check_name(name)
    folder.mkdir(parents=True)
    written = {f"{name}.{split}.inter": _write(folder / f"{name}.{split}.inter", INTER_FIELDS, _inter(buckets, split)) for split in SPLITS}
    written[f"{name}.item"] = _write(folder / f"{name}.item", ITEM_FIELDS, [_item(ingest)])
    return written


def _inter(buckets: Iterable[Path], split: str) -> Iterator[pl.DataFrame]:
    for bucket in buckets:
        rows = pl.read_parquet(bucket, hive_partitioning=False).filter(pl.col("split") == split)
        yield rows.with_columns(timestamp=pl.col("ts") / 1000).select(*INTER_FIELDS)


def _item(ingest: Path) -> pl.DataFrame:
    words = pl.col("categories").list.eval(pl.element().str.replace_all(BLANKS, "_")).list.join(" ")
    told = [pl.col(name).str.replace_all(BLANKS, " ") for name in ("title", "text")]
    return read_items(ingest).with_columns(*told, categories=words).select(*ITEM_FIELDS)


def _write(path: Path, header: dict[str, str], parts: Iterable[pl.DataFrame]) -> int:
    num_rows = 0
    with path.open("w", encoding="utf-8", newline="") as stream:
        stream.write("\t".join(f"{name}:{kind}" for name, kind in header.items()) + "\n")
        for part in parts:
            part.write_csv(stream, separator="\t", include_header=False, quote_style="necessary")
            num_rows += len(part)
    return num_rows


def _refuse_full(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError("there is something here already", str(folder), "name a new folder")
