"""What was counted or fitted beyond train is found by the check that is meant for it, and what kept to train passes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from ingested import write_log

from thinkrec.artefacts.ingest import INTERACTIONS
from thinkrec.artefacts.vectors import EncoderFacts, write_facts
from thinkrec.data.audit.artefacts import audit_artefacts
from thinkrec.data.audit.log import enforce
from thinkrec.errors import LeakError
from thinkrec.store.artefacts import Artefact

ROWS = [
    ("u0", "i0", "train", 1),
    ("u0", "i1", "train", 0),
    ("u1", "i0", "train", 1),
    ("u1", "i2", "valid", 1),
    ("u2", "i1", "test", 0),
]
FITTED = EncoderFacts("mf", has_bias=True, dim=4, num_users=2, num_items=2, num_rows=3)
STAGES = ("ingest", "encode", "cluster", "teacher", "traces")


@pytest.fixture
def folder(tmp_path) -> Path:
    """One folder that holds what all five stages leave, all of it made from train alone."""
    log = pl.DataFrame(ROWS, schema=["user_id", "item_id", "split", "label"], orient="row").with_row_index("row")
    log = log.with_columns(ts=pl.col("row").cast(pl.Int64), rating=pl.lit(None, pl.Float32)).select(INTERACTIONS.names)
    write_log(tmp_path, log.cast({"row": pl.Int64, "label": pl.Int8}), 3)
    (tmp_path / "users/bucket=000").mkdir(parents=True)
    pl.DataFrame({"id": ["u1", "u0"]}).write_parquet(tmp_path / "users/bucket=000/part-0.parquet")
    pl.DataFrame({"id": ["i0", "i1"]}).write_parquet(tmp_path / "items.parquet")
    write_facts(tmp_path, FITTED)
    pl.DataFrame({"user_id": ["u0"]}).write_parquet(tmp_path / "sample.parquet")
    pl.DataFrame({"row": [0], "text": ["because"]}).write_parquet(tmp_path / "lessons.parquet")
    pl.DataFrame({"row": [1, 2], "user_id": ["u0", "u1"], "verdict": [0, 1]}).write_parquet(tmp_path / "traces.parquet")
    return tmp_path


def found(folder: Path, *stages: str) -> dict[str, tuple[str, int]]:
    """(severity, rows) by check that found something."""
    findings = audit_artefacts({stage: Artefact(str(folder), {}) for stage in stages or STAGES})
    return {finding.check: (finding.severity, finding.num_rows) for finding in findings if finding.num_rows}


def test_what_kept_to_train_passes_every_check(folder):
    findings = audit_artefacts({stage: Artefact(str(folder), {}) for stage in STAGES})
    assert len({finding.check for finding in findings}) == 7
    assert all(finding.num_rows == 0 and finding.meaning and finding.fix for finding in findings)


def table(name: str, change: Callable[[pl.DataFrame], pl.DataFrame]) -> Callable[[Path], object]:
    def plant(folder: Path) -> None:
        change(pl.read_parquet(folder / f"{name}.parquet")).write_parquet(folder / f"{name}.parquet")

    return plant


def with_row(**row: object) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """The table with one more row."""
    return lambda t: pl.concat([t, pl.DataFrame([row], schema=t.schema)])


@pytest.mark.parametrize(
    ("plant", "expected"),
    [
        (table("counts", lambda t: t.with_columns(num_likes=pl.col("num_likes") + 1).cast(t.schema)), {"counted_beyond_train": 2}),
        (table("counts", with_row(item_id="i1", bucket=9, num_rows=1, num_likes=0)), {"counted_beyond_train": 1}),
        (table("counts", lambda t: t.head(1)), {"counted_beyond_train": 1}),
        (table("users/bucket=000/part-0", with_row(id="u2")), {"vector_of_unseen_user": 1}),
        (table("items", with_row(id="i2")), {"vector_of_unseen_item": 1}),
        (lambda folder: write_facts(folder, replace(FITTED, num_rows=5)), {"encoder_fitted_beyond_train": 1}),
        (table("sample", with_row(user_id="u2")), {"clustered_beyond_train": 1}),
        (table("lessons", with_row(row=3, text="leak")), {"lesson_beyond_train": 1}),
        (table("traces", with_row(row=4, user_id="u2", verdict=0)), {"trace_beyond_train": 1}),
    ],
)
def test_a_planted_leak_is_found_and_stops_the_run(folder, plant, expected):
    plant(folder)
    assert found(folder) == {check: ("stop", num_rows) for check, num_rows in expected.items()}
    with pytest.raises(LeakError, match=next(iter(expected))):
        enforce(audit_artefacts({stage: Artefact(str(folder), {}) for stage in STAGES}), allow=False)


def test_towers_of_the_users_own_are_only_warned_about(folder):
    table("users/bucket=000/part-0", with_row(id="u2"))(folder)
    write_facts(folder, replace(FITTED, source="given", num_rows=None))
    assert found(folder) == {"vector_of_unseen_user": ("warn", 1)}


def test_a_stage_that_is_not_there_is_not_judged(folder):
    table("traces", with_row(row=4, user_id="u2", verdict=0))(folder)
    assert found(folder, "ingest", "encode") == {}
    assert found(folder, "ingest", "traces") == {"trace_beyond_train": ("stop", 1)}
