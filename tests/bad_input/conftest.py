"""A sound folder to spoil, and the real command line with everything around it watched.

No Ray unless a test asks for it: the tasks of `ingest` are done in this process.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from spoil import Case
from tiny_folder import CHAT, make_folder

from thinkrec.cli.main import main
from thinkrec.data import ingest
from thinkrec.routing import assign

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
[keywords]
source = "none"
"""


@pytest.fixture(scope="session")
def sound_base(tmp_path_factory) -> Path:
    """A base that a run would take, with a chat template."""
    return make_folder(tmp_path_factory.mktemp("sound") / "base", chat=CHAT)


@pytest.fixture
def folder(tmp_path, tmp_path_factory, sound_base, monkeypatch) -> Path:
    """A working folder with a sound run file, canonical data, vectors, MovieLens files, scores, a base and a DeepSpeed file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("inductor")))  # torch makes it when it is loaded
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("thinkrec.distributed.session.ray_session", lambda config: nullcontext())
    monkeypatch.setattr(ingest, "map_tasks", map)
    monkeypatch.setattr(assign, "over_buckets", bucket_by_bucket)
    (tmp_path / "run.toml").write_text(RUN_FILE)
    (tmp_path / "given").mkdir()
    write_tables(tmp_path / "given")
    (tmp_path / "given/ds.json").write_text('{"zero_optimization": {"stage": 1}}')
    shutil.copytree(sound_base, tmp_path / "given/base")
    return tmp_path


def write_tables(given: Path) -> None:
    rows = [(f"u{user}", f"i{item}") for item in range(NUM_ITEMS) for user in range(NUM_USERS)]
    log = pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row").with_columns(
        ts=1_600_000_000_000 + 1000 * pl.int_range(pl.len()), label=pl.int_range(pl.len()) % 2, rating=pl.lit(4.0)
    )
    log.write_parquet(given / "interactions.parquet")
    items = pl.DataFrame({"item_id": [f"i{n}" for n in range(NUM_ITEMS)], "title": [f"Title {n}" for n in range(NUM_ITEMS)]})
    items.write_parquet(given / "items.parquet")
    rng = np.random.default_rng(0)
    for name, letter, number in (("user", "u", NUM_USERS), ("item", "i", NUM_ITEMS)):
        vectors = rng.normal(size=(number, 4)).tolist()
        pl.DataFrame({"id": [f"{letter}{n}" for n in range(number)], "vector": vectors}).write_parquet(given / f"{name}_vectors.parquet")
    log.select("user_id", "item_id", "label", score=pl.lit(0.5)).write_parquet(given / "scores.parquet")
    (given / "ratings.dat").write_text("".join(f"1::{n}::{1 + n % 5}::{978300760 + n}\n" for n in range(1, 101)), encoding="latin-1")
    (given / "movies.dat").write_text("".join(f"{n}::Film {n} (1995)::Drama\n" for n in range(1, 101)), encoding="latin-1")


def bucket_by_bucket(work: Callable[..., pa.Table], what: str, buckets: Sequence[int], **settings: object) -> Iterator[pl.DataFrame]:
    """The passes of `cluster` over the users without Ray."""
    return (pl.DataFrame(work(bucket, **settings)) for bucket in buckets)


@pytest.fixture
def command(folder, capsys) -> Callable[..., tuple[int, str]]:
    """command(word, ...) -> (exit code, stderr); fails if anything outside the run folder was made, changed or removed."""

    def surroundings() -> dict[str, bytes | str]:
        outside = [path for path in folder.rglob("*") if folder / "run" not in (path, *path.parents)]
        return {str(path): path.read_bytes() if path.is_file() else str(path.stat()) if path.is_dir() else "" for path in outside}

    def run(*words: str) -> tuple[int, str]:
        before = surroundings()
        with pytest.raises(SystemExit) as caught:
            main(list(words))
        assert surroundings() == before
        return int(caught.value.code or 0), capsys.readouterr().err

    return run


@pytest.fixture
def refused(folder, command) -> Callable[[Case], None]:
    """refused(case): spoil, run, and check exit code and message: what, where, how to fix it, and no traceback."""

    def check(case: Case) -> None:
        case.spoil(folder)
        code, err = command(*case.words)
        assert "Traceback" not in err
        said = err[err.index("thinkrec: ") :]
        assert code == case.code, said
        assert re.search(case.says, said, re.DOTALL), said
        assert "\n  where: " in said, said
        assert "\n  fix:  " in said, said

    return check
