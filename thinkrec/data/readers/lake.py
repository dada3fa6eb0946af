"""Delta Lake and Iceberg tables through deltalake and pyiceberg, which are extras: thinkrec[delta], thinkrec[iceberg].

An Iceberg table is named by its metadata file (`table.metadata_location`): that is one snapshot for good, and needs no catalog and no
secret. A Delta table is named by its folder and read at its newest version. Both take their store's credentials from the environment.
Neither has an order of rows: `row` follows the order of files, and so do ties of time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from types import ModuleType

import pyarrow as pa

from thinkrec.data.readers.columns import batches
from thinkrec.errors import ConfigError, DataError


def delta(path: str, names: Collection[str]) -> Iterator[pa.Table]:
    """The rows of the Delta table in this folder, in batches, of the columns `names` those that are there."""
    deltalake = _extra("deltalake", "delta")
    try:
        yield from batches(deltalake.DeltaTable(path).to_pyarrow_dataset(), names)
    except (deltalake.exceptions.DeltaError, OSError, pa.ArrowException) as error:
        raise DataError(f"this cannot be read as a Delta table: {error}", path, "name the folder that holds _delta_log") from None


def iceberg(path: str, names: Collection[str]) -> Iterator[pa.Table]:
    """The rows of the Iceberg snapshot of this metadata file, in batches, of the columns `names` those that are there."""
    _extra("pyiceberg", "iceberg")
    from pyiceberg.exceptions import NoSuchTableError, ValidationError
    from pyiceberg.table import StaticTable

    try:
        table = StaticTable.from_metadata(path)
        wanted = [field.name for field in table.schema().fields if field.name in names]
        reader = table.scan(selected_fields=tuple(wanted)).to_arrow_batch_reader()
        yield reader.schema.empty_table()
        for batch in reader:
            yield pa.Table.from_batches([batch])
    except (ValidationError, NoSuchTableError, ValueError, OSError, pa.ArrowException) as error:
        what = f"this cannot be read as an Iceberg table: {error}"
        raise DataError(what, path, "name the table's metadata file, NUMBER-ID.metadata.json") from None


def _extra(module: str, extra: str) -> ModuleType:
    import importlib

    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        raise ConfigError(f"data.source needs the package {module}", "data.source", f"pip install 'thinkrec[{extra}]'") from None
