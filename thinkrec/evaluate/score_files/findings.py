"""What came up when files were read and joined, and what is said of it: a refusal, or a warning in the report.

Findings are counts with a few examples, so they add up over shards, and the verdict is the same in any number of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import polars as pl

from thinkrec.data.forms import in_other_form
from thinkrec.errors import DataError
from thinkrec.evaluate.score_files.parts import FILE_COLUMNS, Part
from thinkrec.evaluate.score_files.read import read_part

Kind = Literal[
    "rows",  # that were read
    "copies",  # equal to an earlier row in everything that is read: left out
    "conflicts",  # of one key with different values
    "repeats",  # of a pair that an earlier row has: told apart by their row numbers, or events of train
    "equal",  # where nothing says whether they are copies: the file has neither item_id nor row
    "ambiguous",  # of one pair, told apart by row numbers that the other file lacks
    "alone",  # of scores, without partner in the source
    "extra",  # of the source, without partner in scores
    "labels",  # whose label in the source is another than in scores
    "numbers",  # whose pair agrees, and whose row number in the source is another than in scores
    "unknown users",  # of scores, whose user has no row in train
    "unknown items",
]
ROW_KEYS = ("user_id", "item_id", "row")
NUM_KEPT, NUM_SHOWN = 100, 3
KEY = pl.Struct({name: FILE_COLUMNS[name] for name in ROW_KEYS})
SCHEMA = pl.Schema([("kind", pl.String()), ("source", pl.String()), ("num_rows", pl.Int64()), ("examples", pl.List(KEY))])
Findings = Mapping[tuple[str, str], tuple[int, list[dict[str, object]]]]  # (kind, source) -> rows, and the keys of the first of them


def finding(kind: Kind, source: str, rows: pl.DataFrame) -> pl.DataFrame:
    """The line of SCHEMA for these rows; no line where there are none."""
    if rows.is_empty():
        return pl.DataFrame(schema=SCHEMA)
    keys = rows.select(pl.col(name) if name in rows.columns else pl.lit(None, FILE_COLUMNS[name]).alias(name) for name in ROW_KEYS)
    return _line(kind, source, rows.height, _first(keys))


def rows_read(source: str, number: int) -> pl.DataFrame:
    """The finding "rows", which needs no examples."""
    return _line("rows", source, number, [])


def merge(parts: Iterable[pl.DataFrame]) -> Findings:
    """The sum of findings of parts."""
    lines = pl.concat([pl.DataFrame(schema=SCHEMA), *parts])
    found = {}
    for (kind, source), group in lines.partition_by("kind", "source", as_dict=True).items():
        examples = group.select(pl.col("examples").explode()).drop_nulls().unnest("examples")
        found[str(kind), str(source)] = (int(group["num_rows"].sum()), _first(examples))
    return found


def _line(kind: Kind, source: str, num_rows: int, examples: list[dict[str, object]]) -> pl.DataFrame:
    return pl.DataFrame({"kind": [kind], "source": [source], "num_rows": [num_rows], "examples": [examples]}, schema=SCHEMA)


def _first(keys: pl.DataFrame) -> list[dict[str, object]]:
    return keys.unique().sort(ROW_KEYS, nulls_last=True).head(NUM_KEPT).to_dicts()


def settle(found: Findings, parts: Mapping[str, Sequence[Part]], paths: Mapping[str, str]) -> list[str]:
    """The warnings for the report. parts: of each source; they are read once more where ids may differ in form only.

    Raises DataError for empty files, conflicting rows or labels, files that do not hold the same rows, and a train file whose ids are
    written in another form.
    """
    number = {key: num_rows for key, (num_rows, _) in found.items()}
    for source in ("scores", "labels", "reference", "train"):
        if source in paths and not number.get(("rows", source)):
            raise DataError("there are no rows in this file", paths[source], "write one row a scored interaction")
    for source, path in paths.items():
        if ("conflicts", source) in found:
            what = f"{_told(found, 'conflicts', source)} in more than one row, with different scores or labels"
            raise DataError(what, path, "keep one row of each pair, or number the rows in a column row")
    for source in ("labels", "reference"):
        if source in paths:
            _refuse_mismatch(found, source, parts, paths)
    _refuse_strangers(found, parts, paths)
    return _warnings(number, paths)


def _refuse_mismatch(found: Findings, source: str, parts: Mapping[str, Sequence[Part]], paths: Mapping[str, str]) -> None:
    both = f"{paths['scores']}, {paths[source]}"
    if ("ambiguous", source) in found:
        what = f"{_told(found, 'ambiguous', source)} in more than one row of the first file, and the second cannot tell them apart"
        raise DataError(what, both, "bring user_id, item_id and row in both files, or keep one row of each pair")
    alone, extra = (found.get((kind, source), (0, []))[0] for kind in ("alone", "extra"))
    if alone or extra:
        mine, theirs = (found["rows", name][0] - found.get(("copies", name), (0, []))[0] for name in ("scores", source))
        kind = "alone" if alone else "extra"
        what = f"{mine} and {theirs} rows, {mine - alone} of them in both; in one alone: {_examples(found, kind, source)}"
        fix = " ".join(_forms(found, kind, source, parts, paths)) or "score the same rows in both"
        raise DataError(what, both, fix)
    if ("labels", source) in found:
        what = f"{_told(found, 'labels', source)} with one label in the first file and another in the second"
        raise DataError(what, both, "bring the labels of one and the same truth, or leave them out of one file")


def _refuse_strangers(found: Findings, parts: Mapping[str, Sequence[Part]], paths: Mapping[str, str]) -> None:
    """Cells and curves would call everybody unseen where ids are written otherwise."""
    num_rows = found["rows", "scores"][0] - found.get(("copies", "scores"), (0, []))[0]
    for kind, column in (("unknown users", "user_id"), ("unknown items", "item_id")):
        unknown, examples = found.get((kind, "train"), (0, []))
        if 2 * unknown > num_rows:
            known = in_other_form(_ids(examples, column), (read_part(part)[column] for part in parts["train"]))
            if 2 * len(known) > len(examples):
                what = f"the {column} of {unknown} of {num_rows} rows is not in train, but those of the first are in another form"
                raise DataError(what, f"{paths['scores']}, {paths['train']}", _alike(column, known[0], paths["scores"], paths["train"]))


def _forms(found: Findings, kind: str, source: str, parts: Mapping[str, Sequence[Part]], paths: Mapping[str, str]) -> list[str]:
    here, there = ("scores", source) if kind == "alone" else (source, "scores")
    examples, hints = found[kind, source][1], []
    for column in ("user_id", "item_id"):
        if all(column in parts[name][0].there for name in (here, there)):
            known = in_other_form(_ids(examples, column), (read_part(part)[column] for part in parts[there]))
            hints += [_alike(column, pair, paths[here], paths[there]) for pair in known[:1]]
    return hints


def _alike(column: str, pair: tuple[str, str], path: str, other: str) -> str:
    return f"the ids differ in form: {column} {pair[0]!r} in {path} is {pair[1]!r} in {other}; write them alike."


def _ids(examples: Sequence[Mapping[str, object]], column: str) -> pl.Series:
    return pl.Series([example[column] for example in examples], dtype=pl.String)


def _warnings(number: Mapping[tuple[str, str], int], paths: Mapping[str, str]) -> list[str]:
    told = []
    for (kind, source), num in sorted(number.items()):
        path, rows = paths[source], number.get(("rows", source), 0)
        if kind == "copies":
            told.append(f"{path}: {num} of {rows} rows are copies of others and were left out; {rows - num} count")
        elif kind == "repeats" and source == "train":
            told.append(f"{path}: {num} of {rows} rows repeat the user and item of another row; each counts as a train row of both")
        elif kind == "repeats":
            told.append(
                f"{path}: {num} of {rows} rows repeat the user and item of another row under another number in column row; all count"
            )
        elif kind == "equal":
            told.append(f"{path}: {num} of {rows} rows equal another one; without item_id nobody can tell copies from ties, so all count")
        elif kind == "numbers":
            told.append(
                f"{path}: column row differs from that of {paths['scores']} in {num} rows; they were matched by user_id and item_id"
            )
    return told


def _told(found: Findings, kind: str, source: str) -> str:
    num_rows, examples = found[kind, source]
    stands = "stands" if len(examples) == 1 else "stand"
    return f"{_examples(found, kind, source)} ({num_rows} rows) {stands}"


def _examples(found: Findings, kind: str, source: str) -> str:
    examples = found[kind, source][1]
    shown = [", ".join(f"{name} {value!r}" for name, value in example.items() if value is not None) for example in examples[:NUM_SHOWN]]
    return "; ".join(shown) + ("; ..." if len(examples) > NUM_SHOWN else "")
