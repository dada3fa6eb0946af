"""Everything a user can get wrong, through the real command line: a named error, exit code 2, no traceback, nothing written elsewhere.

No Ray here: these mistakes are found before the first row leaves the driver, and the sound rows of the later cases are dealt to their
buckets in this process.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from thinkrec.cli import main
from thinkrec.data import ingest

NUM_USERS, NUM_ITEMS = 6, 30
RUN_FILE = """
[run]
dir = "run"
[data]
source = "canonical"
path = "given"
[encoder]
source = "given"
users_path = "given/user_vectors.parquet"
items_path = "given/item_vectors.parquet"
"""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A working folder with a sound run file, canonical data, vectors, MovieLens files, scores, and everything else a case may spoil."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("thinkrec.ops.session.ray_session", lambda config: nullcontext())
    monkeypatch.setattr(ingest, "shuffle", deal_here)
    (tmp_path / "run.toml").write_text(RUN_FILE)
    given = tmp_path / "given"
    given.mkdir()
    rows = [(f"u{user}", f"i{item}") for item in range(NUM_ITEMS) for user in range(NUM_USERS)]
    log = pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row").with_columns(
        ts=1_600_000_000_000 + 1000 * pl.int_range(pl.len()), label=pl.int_range(pl.len()) % 2, rating=pl.lit(4.0)
    )
    log.write_parquet(given / "interactions.parquet")
    pl.DataFrame({"item_id": [f"i{n}" for n in range(NUM_ITEMS)], "title": [f"Title {n}" for n in range(NUM_ITEMS)]}).write_parquet(
        given / "items.parquet"
    )
    rng = np.random.default_rng(0)
    for name, letter, number in (("user", "u", NUM_USERS), ("item", "i", NUM_ITEMS)):
        vectors = rng.normal(size=(number, 4)).tolist()
        pl.DataFrame({"id": [f"{letter}{n}" for n in range(number)], "vector": vectors}).write_parquet(given / f"{name}_vectors.parquet")
    log.select("user_id", "item_id", "label", score=pl.lit(0.5)).write_parquet(given / "scores.parquet")
    (given / "ratings.dat").write_text("".join(f"1::{n}::{1 + n % 5}::{978300760 + n}\n" for n in range(1, 101)), encoding="latin-1")
    (given / "movies.dat").write_text("".join(f"{n}::Film {n} (1995)::Drama\n" for n in range(1, 101)), encoding="latin-1")
    (given / "base").mkdir()
    (given / "base/config.json").write_text("{}")
    (given / "base/pytorch_model.bin").write_bytes(b"\x80\x04evil")
    (given / "ds.json").write_text('{"zero_optimization": {"stage": 1}}')
    return tmp_path


def deal_here(rows: pl.DataFrame, num_buckets: int, uri: str) -> None:
    """The shuffle of `ingest` without Ray."""
    for part in rows.partition_by("bucket"):
        ingest.write_bucket(part.to_arrow(), uri)


@pytest.fixture
def command(folder, capsys) -> Callable[..., tuple[int, str]]:
    """command(word, ...) -> (exit code, stderr); fails if anything outside the run folder was made or changed."""

    def files() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and folder / "run" not in path.parents}

    def run(*words: str) -> tuple[int, str]:
        before = files()
        with pytest.raises(SystemExit) as caught:
            main(list(words))
        assert files() == before
        return int(caught.value.code or 0), capsys.readouterr().err

    return run


def table(name: str, change: Callable[[pl.DataFrame], pl.DataFrame]) -> Callable[[Path], Any]:
    """A spoiler: the Parquet file of this name, changed."""

    def spoil(folder: Path) -> None:
        path = folder / "given" / f"{name}.parquet"
        change(pl.read_parquet(path)).write_parquet(path)

    return spoil


def cell(name: str, column: str, value: Any, row: int = 3) -> Callable[[Path], Any]:
    """A spoiler: one cell of a table."""
    changed = pl.when(pl.int_range(pl.len()) == row).then(pl.lit(value)).otherwise(pl.col(column)).alias(column)
    return table(name, lambda t: t.with_columns(changed))


def text(name: str, change: Callable[[str], str]) -> Callable[[Path], Any]:
    """A spoiler: a text file, changed."""
    return lambda folder: (folder / name).write_text(change((folder / name).read_text(encoding="latin-1")), encoding="latin-1")


def nothing(folder: Path) -> None:
    """A spoiler that spoils nothing: the words of the command are wrong."""


def until(stage: str, *overrides: str) -> tuple[str, ...]:
    return ("run", "run.toml", "--until", stage, *(word for override in overrides for word in ("--set", override)))


INGEST = until("ingest")
MOVIELENS = until("ingest", "data.source=movielens1m", "split.valid_quantile=0.5", "split.test_quantile=0.75")
PARQUET = ("data.source=parquet", "data.path=given/interactions.parquet", "data.items_path=given/items.parquet")
NAN = float("nan")


def evil_pickle(folder: Path) -> None:
    """A spoiler: what a hostile mirror would put in the place of CoLLM's files."""
    for name in ("train", "valid", "test"):
        (folder / f"given/{name}_ood2.pkl").write_bytes(b"cposix\nsystem\n(S'touch owned'\ntR.")


CASES = {
    # The run file.
    "no run file": (nothing, ("run", "none.toml"), "run file is not there"),
    "not TOML": (text("run.toml", lambda t: t + "[run\n"), INGEST, "this is not TOML"),
    "unknown key": (text("run.toml", lambda t: t + "[train]\nnum_group = 2\n"), INGEST, "did you mean 'train.num_groups'"),
    "override of bad form": (nothing, until("ingest", "run.seed"), "not of the form a.b=value"),
    "override of bad type": (nothing, until("ingest", "train.experts.lr=fast"), "train.experts.lr: Input should be a valid number"),
    "unknown stage": (nothing, until("everything"), "there is no stage 'everything'"),
    "unknown stage of a dry run": (nothing, (*until("everything"), "--dry-run"), "there is no stage 'everything'"),
    "a rate that rises": (nothing, until("ingest", "train.experts.min_lr=1"), r"train\.experts: min_lr"),
    "a seed below zero": (nothing, until("ingest", "run.seed=-1"), r"run\.seed: Input should be greater than or equal to 0"),
    "a run folder without a name": (nothing, until("ingest", "run.dir="), r"run\.dir: String should have at least 1 character"),
    "a run folder that is a file": (nothing, until("ingest", "run.dir=given/ds.json"), "run folder cannot be made"),
    "a date that is none": (nothing, until("ingest", "split.valid_from=someday"), r"'someday' is not an ISO date"),
    "cuts out of order": (nothing, until("ingest", "split.valid_quantile=0.9", "split.test_quantile=0.1"), "order the cuts"),
    "an address nobody knows": (nothing, until("ingest", "run.dir=nosuch://bucket/run"), "address cannot be opened"),
    # Files a run needs, looked at before anything starts.
    "no data folder": (nothing, until("ingest", "data.path=nowhere"), r"data\.path names something that is not there"),
    "no base folder": (nothing, until("ingest", "base.source=folder", "base.path=nowhere"), "base folder is not there"),
    "base without safetensors": (nothing, until("ingest", "base.source=folder", "base.path=given/base"), "no safetensors file"),
    "no DeepSpeed file": (nothing, until("ingest", "train.ds_config=nowhere.json"), "DeepSpeed file is not there"),
    "unknown DeepSpeed key": (
        text("given/ds.json", lambda t: '{"zero_optimisation": {}}'),
        until("ingest", "train.ds_config=given/ds.json"),
        "did you mean 'zero_optimization'",
    ),
    "no vectors file": (nothing, until("encode", "encoder.users_path=nowhere.parquet"), r"encoder\.users_path names something"),
    # Tables.
    "not Parquet": (text("given/interactions.parquet", lambda t: "not parquet"), INGEST, "cannot be read as Parquet"),
    "no items file": (lambda folder: (folder / "given/items.parquet").unlink(), INGEST, "no Parquet file is there"),
    "missing column": (table("interactions", lambda t: t.drop("ts")), INGEST, "column 'ts' is missing"),
    "neither label nor rating": (table("interactions", lambda t: t.drop("label", "rating")), INGEST, "neither 'rating' nor 'label'"),
    "wrong type": (table("interactions", lambda t: t.with_columns(ts=pl.lit("noon"))), INGEST, "column 'ts' is .*string"),
    "label outside 0 and 1": (cell("interactions", "label", 2), INGEST, r"neither 0 nor 1; the first is 2"),
    "seconds for milliseconds": (table("interactions", lambda t: t.with_columns(pl.col("ts") // 1000)), INGEST, "looks like seconds"),
    "no rows": (table("interactions", lambda t: t.head(0)), INGEST, "no usable row"),
    "empty split": (nothing, until("ingest", "split.valid_from=2090-01-01", "split.test_from=2091-01-01"), "the valid split is empty"),
    "given split without a column": (nothing, until("ingest", "split.mode=given"), "no column 'split'"),
    "item ids doubled": (table("items", lambda t: pl.concat([t, t.tail(1)])), INGEST, "1 values of item_id are doubled"),
    "user id climbs out": (cell("interactions", "user_id", "../x"), INGEST, r"climb out of a folder.*'\.\./x'"),
    "item id climbs out": (cell("items", "item_id", "..\\x"), INGEST, "climb out of a folder"),
    "item id holds NUL": (cell("items", "item_id", "a\0b"), INGEST, "hold NUL"),
    "unknown items above the share": (table("items", lambda t: t.head(20)), INGEST, "item_id is not among the items: 60"),
    "a pair in two splits": (table("interactions", lambda t: t.with_columns(item_id=pl.lit("i0"))), INGEST, "pair_in_two_splits"),
    "malformed .dat lines": (text("given/ratings.dat", lambda t: t + "1::x::5::9\n" * 9), MOVIELENS, "9 rows cannot be used"),
    "no .dat file": (lambda folder: (folder / "given/movies.dat").unlink(), MOVIELENS, "movies.dat is missing"),
    "rows without a path of items": (nothing, until("ingest", "data.source=csv"), r"data\.items_path is empty"),
    "a path of items nobody reads": (nothing, until("ingest", "data.items_path=given"), "does not read it"),
    "a named column that is not there": (nothing, until("ingest", *PARQUET, "data.columns.rating=stars"), "column 'timestamp' is missing"),
    "a folder that is no Delta table": (
        nothing,
        until("ingest", "data.source=delta", "data.items_path=given/items.parquet"),
        "cannot be read as a Delta table",
    ),
    "a window that holds nothing": (nothing, until("ingest", "data.since=2090-01-01"), "no row is left"),
    "an evil pickle": (evil_pickle, ("data", "import-collm", "--in", "given", "--out", "run/out"), r"asks for posix\.system"),
    "an artefact that is none": (nothing, ("data", "export-recbole", "given", "run/out"), "this is no ingest artefact"),
    # Vectors.
    "NaN vector": (cell("user_vectors", "vector", [0.0, NAN, 0.0, 0.0], row=4), until("encode"), "id 'u4' holds NaN"),
    "vectors of two widths": (cell("item_vectors", "vector", [1.0]), until("encode"), "id 'i3' has 1 numbers"),
    "vectors of nobody": (table("user_vectors", lambda t: t.with_columns(id="x" + pl.col("id"))), until("cluster"), "has a vector"),
    "fewer users than clusters": (nothing, until("cluster", "cluster.num_clusters=7"), "7 clusters asked for, but the 6 train users"),
    # Score files.
    "no score file": (nothing, ("evaluate", "nowhere.parquet"), "there is no such file"),
    "scores without a column": (table("scores", lambda t: t.drop("score")), ("evaluate", "given/scores.parquet"), "no column 'score'"),
    "NaN score": (cell("scores", "score", NAN), ("evaluate", "given/scores.parquet"), "column 'score' holds nan"),
    "no scores": (table("scores", lambda t: t.head(0)), ("evaluate", "given/scores.parquet"), "no rows in this file"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_users_mistake_is_named_with_exit_code_2(folder, command, case):
    spoil, words, message = CASES[case]
    spoil(folder)
    code, err = command(*words)
    assert code == 2
    assert "Traceback" not in err
    said = err[err.index("thinkrec: ") :]
    assert re.search(message, said, re.DOTALL), said
    assert "  mend:  " in said


@pytest.mark.parametrize("words", [until("encode"), MOVIELENS, ("evaluate", "given/scores.parquet")], ids=lambda words: " ".join(words[:4]))
def test_the_control_is_sound(command, words):
    """What every case spoils does get through unspoilt."""
    assert command(*words)[0] == 0


def test_malformed_lines_below_the_share_are_set_aside_and_counted(folder, command):
    text("given/ratings.dat", lambda t: t + "1::x::5::9\n")(folder)
    assert command(*MOVIELENS)[0] == 0
    (manifest,) = (folder / "run/ingest").glob("*/manifest.json")
    assert json.loads(manifest.read_text())["figures"]["num_quarantined"] == 1


def test_a_refused_stage_leaves_no_artefact_and_runs_once_it_is_mended(folder, command):
    cell("interactions", "label", 2)(folder)
    assert command(*INGEST)[0] == 2
    assert not list((folder / "run").rglob("manifest.json"))
    cell("interactions", "label", 1)(folder)
    assert command(*INGEST)[0] == 0
