"""`thinkrec evaluate scores.parquet`: judge any score file, made by any model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from thinkrec.errors import DataError, MissingFileError
from thinkrec.evaluate.scoreboard import difference_rows, measure, metric_rows

COLUMNS = {"row": pl.Int64, "user_id": pl.String, "item_id": pl.String, "score": pl.Float64, "label": pl.Int8}
KEYS = (["row"], ["user_id", "item_id"])


def judge_file(
    path: str | Path, labels_path: str | Path | None = None, reference: str | Path | None = None, num_bootstrap: int = 1000, seed: int = 42
) -> dict[str, Any]:
    """Metrics with user-bootstrap intervals of a parquet or CSV file (user_id, score, label; item_id or row to match other files).

    labels_path: a file with the labels, if `path` has none. reference: a second score file over the same rows, for paired differences.
    Raises MissingFileError, or DataError with file, column and row.
    """
    path, names = str(path), ["scores"]
    table = _read(path, ["user_id", "score"] if labels_path else ["user_id", "score", "label"]).rename({"score": "scores"})
    if labels_path:
        labels = _read(str(labels_path), ["label"])
        table = _match(table.drop("label", strict=False), path, labels, str(labels_path), "label")
    if reference:
        other = _read(str(reference), ["score"]).rename({"score": "reference"})
        table, names = _match(table, path, other, str(reference), "reference"), ["scores", "reference"]
    measured = measure(table, names, num_bootstrap, seed)
    return {
        "files": {"scores": path, "labels": labels_path and str(labels_path), "reference": reference and str(reference)},
        "num_rows": table.height,
        "num_users": table["user_id"].n_unique(),
        "like_rate": table["label"].mean(),
        "metrics": metric_rows(measured),
        "metrics_reference_profile": metric_rows(measure(table, names, num_bootstrap, seed, "reference")),
        "differences": difference_rows(measured, [("scores", "reference")]),
        "settings": {"num_bootstrap": num_bootstrap, "seed": seed},
    }


def _read(path: str, needed: list[str]) -> pl.DataFrame:
    """The known columns of a file, checked and in the types of COLUMNS."""
    if not Path(path).is_file():
        raise MissingFileError("there is no such file", path, "name a .parquet or .csv file")
    try:
        table = pl.read_csv(path, infer_schema=False) if path.endswith(".csv") else pl.read_parquet(path)
    except pl.exceptions.PolarsError as error:
        what = f"this file cannot be read: {str(error).splitlines()[0]}"
        raise DataError(what, path, "write it as parquet, or as .csv with a header") from None
    missing = [name for name in needed if name not in table.columns]
    if missing:
        what = f"no column {missing[0]!r}; there are {table.columns}"
        raise DataError(what, path, "columns: user_id, score, label, and item_id to compare files")
    if not table.height:
        raise DataError("there are no rows in this file", path, "write one row a scored interaction")
    return table.select(_checked(table[name], path) for name in COLUMNS if name in table.columns)


def _checked(column: pl.Series, path: str) -> pl.Series:
    """One column in its type; raises DataError that names the first row that breaks it. Text is taken for numbers where it is one."""
    name, kind = column.name, column.dtype
    if kind.is_nested() or kind.is_temporal() or (kind.is_float() and name not in ("score", "label")):
        raise DataError(f"column {name!r} holds {kind}", path, "ids are strings or integers, score and label numbers")
    number = column.cast(pl.Float64 if name in ("score", "label") else COLUMNS[name], strict=False)
    if name == "label":
        good, mend = number.is_in([0.0, 1.0]), "labels are 0 or 1"
    elif name == "score":
        good, mend = number.is_finite(), "scores are finite numbers; leave out rows that were not scored"
    else:
        good, mend = number.is_not_null(), "every row needs its ids"
    bad = ~good.fill_null(False)
    if bad.any():
        row = bad.arg_true()[0]
        raise DataError(f"column {name!r} holds {column[row]!r}; {bad.sum()} such rows", f"{path}, row {row + 1}", mend)
    return number.cast(COLUMNS[name])


def _match(table: pl.DataFrame, path: str, other: pl.DataFrame, other_path: str, column: str) -> pl.DataFrame:
    """`table` with a column of `other`; both must hold exactly the same rows, each once."""
    keys = next((keys for keys in KEYS if all(key in table.columns and key in other.columns for key in keys)), None)
    both = f"{path}, {other_path}"
    if keys is None:
        raise DataError("these two files cannot be matched row by row", both, "both need user_id and item_id, or row")
    for side, where in ((table, path), (other, other_path)):
        twice = side.select(keys).filter(side.select(keys).is_duplicated())
        if twice.height:
            raise DataError(f"{twice.row(0, named=True)} stands in more than one row", where, "keep one row of each")
    joined = table.join(other.select(*keys, column), on=keys, maintain_order="left")
    if not table.height == joined.height == other.height:
        raise DataError(f"{table.height} and {other.height} rows, {joined.height} of them in both", both, "score the same rows in both")
    return joined
