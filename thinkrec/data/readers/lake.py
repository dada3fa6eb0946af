"""Parquet files, Delta and Iceberg tables through Ray Data: the cluster's workers read them, the driver holds one batch at a time.

Every node must see the files. Delta and Iceberg need the extras thinkrec[delta] and thinkrec[iceberg]. An Iceberg table is named by its
metadata file (`table.metadata_location`): that is one snapshot for good, and needs no catalog and no secret. A Delta table is named by its
folder and read at its newest version. Both take their store's credentials from the environment. Neither has an order of rows: `row`, and
with it ties of time, follows Delta's own list of files, and Iceberg's files from the largest to the smallest; the cluster changes neither.
Rows of all files are counted through: Ray says of no row which file it is from.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.dataset as ds

from thinkrec.data.readers.hive import parquet_files, partition, with_partition
from thinkrec.data.readers.parquet_columns import BATCH_ROWS
from thinkrec.data.readers.source import Batch
from thinkrec.distributed.placement import await_room
from thinkrec.errors import ConfigError, DataError
from thinkrec.store.address import absolute

if TYPE_CHECKING:
    import ray.data
    from pyiceberg.table import StaticTable


def parquet(path: str, names: Collection[str]) -> Iterator[Batch]:
    """A Parquet file, or every .parquet file below a folder in order of name, in batches; of the columns `names` those that are there.

    Folders called name=value are a column, too.
    """
    from ray.data import read_parquet
    from ray.data.datasource.partitioning import Partitioning

    system, base, files = parquet_files(absolute(path))
    try:
        own = ds.dataset(files, format="parquet", filesystem=system).schema
        schema = with_partition(own.empty_table(), partition(files[0], base)).schema
        yield (first := _no_rows(schema, names))
        hive = Partitioning("hive", base_dir=base, filesystem=system) if schema != own else None
        options = {"filesystem": system, "schema": schema, "partitioning": hive, "file_extensions": None}
        yield from _batches(partial(read_parquet, files, **options), first.rows.column_names)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"this cannot be read as Parquet: {error}", path, "write it again, all files with one schema") from None


def delta(path: str, names: Collection[str]) -> Iterator[Batch]:
    """The rows of the Delta table in this folder, in batches, of the columns `names` those that are there."""
    deltalake = _extra("deltalake", "delta")
    from ray.data import read_delta

    try:
        table = deltalake.DeltaTable(absolute(path))
        yield (first := _no_rows(table.to_pyarrow_dataset().schema, names))
        yield from _batches(partial(read_delta, absolute(path), version=table.version()), first.rows.column_names)
    except (deltalake.exceptions.DeltaError, OSError, pa.ArrowException) as error:
        raise DataError(f"this cannot be read as a Delta table: {error}", path, "name the folder that holds _delta_log") from None


def iceberg(path: str, names: Collection[str]) -> Iterator[Batch]:
    """The rows of the Iceberg snapshot of this metadata file, in batches, of the columns `names` those that are there."""
    _extra("pyiceberg", "iceberg")
    from pyiceberg.exceptions import NoSuchTableError, ValidationError
    from ray.data import read_iceberg

    try:
        table = Snapshot().load_table(path)
        yield (first := _no_rows(table.schema().as_arrow(), names))
        if num_files := len(list(table.scan().plan_files())):
            catalog = {"py-catalog-impl": f"{__name__}.{Snapshot.__name__}"}
            rows = partial(read_iceberg, table_identifier=path, catalog_kwargs=catalog, override_num_blocks=num_files)
            yield from _batches(rows, first.rows.column_names)
    except (ValidationError, NoSuchTableError, ValueError, OSError, pa.ArrowException) as error:
        what = f"this cannot be read as an Iceberg table: {error}"
        raise DataError(what, path, "name the table's metadata file, NUMBER-ID.metadata.json") from None


class Snapshot:
    """The catalog that Ray Data asks for a table: it knows every table by the address of its metadata file."""

    def __init__(self, name: str = "", **properties: str) -> None:
        """What pyiceberg gives to every catalog; none of it is needed."""

    def load_table(self, identifier: str) -> StaticTable:
        from pyiceberg.table import StaticTable

        # pyiceberg does not look at these; without a region it asks Amazon for it.
        given = {"s3.endpoint": "AWS_ENDPOINT_URL", "s3.region": "AWS_DEFAULT_REGION"}
        return StaticTable.from_metadata(identifier, {key: value for key, name in given.items() if (value := os.environ.get(name))})


def _no_rows(schema: pa.Schema, names: Collection[str]) -> Batch:
    """An empty table, so that a missing column is found before anything is read."""
    return Batch(schema.empty_table().select([name for name in schema.names if name in names]))


def _batches(read: Callable[[], ray.data.Dataset], columns: list[str]) -> Iterator[Batch]:
    """These columns of the Ray data set that `read` opens, for which Ray already looks into the files on a worker."""
    await_room("a reader of tables")
    rows = read()
    rows.context.execution_options.preserve_order = True  # `row` is counted through
    # Whole blocks stay in the object store and are cut without a copy; batches of a size would be put together here.
    for block in rows.select_columns(columns).iter_batches(batch_format="pyarrow", batch_size=None):
        yield from (Batch(block.slice(start, BATCH_ROWS)) for start in range(0, block.num_rows, BATCH_ROWS))


def _extra(module: str, extra: str) -> ModuleType:
    import importlib

    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        raise ConfigError(f"data.source needs the package {module}", "data.source", f"pip install 'thinkrec[{extra}]'") from None
