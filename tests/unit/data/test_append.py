"""A day's rows appended to an ingested log: the same as the whole log at once, untouched buckets byte for byte, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ingested import Ingested, ingest_here, source_of

from thinkrec.artefacts.ingest import bucket_files, bucket_of
from thinkrec.config.data import DataSection, SplitSection
from thinkrec.config.refresh import RefreshSection
from thinkrec.data.append import append, open_day
from thinkrec.data.readers.source import FILE_BITS, Source
from thinkrec.data.split import iso
from thinkrec.errors import ConfigError, DataError

DATA = DataSection(source="canonical", path="unused", num_buckets=4)
HOUR, FIRST = 3_600_000, 1_600_000_000_000
CUTS = SplitSection(valid_from=iso(FIRST + 40 * HOUR), test_from=iso(FIRST + 50 * HOUR))


def catalogue(*titles: str) -> pa.Table:
    """Items i0, i1, ... of these titles."""
    return pa.table(
        {
            "item_id": [f"i{number}" for number in range(len(titles))],
            "title": titles,
            "text": pa.nulls(len(titles), pa.string()),
            "categories": pa.nulls(len(titles), pa.list_(pa.string())),
        }
    )


ITEMS = catalogue(*(f"Thing {number}" for number in range(70)))


def log(users: Sequence[str], hours: range, first_item: int = 0) -> pa.Table:
    """One row a user and hour, each with an item of its own."""
    rows = [
        (user, f"i{first_item + hour}", FIRST + hour * HOUR + number, (hour + number) % 2)
        for hour in hours
        for number, user in enumerate(users)
    ]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "ts", "label"], orient="row").with_row_index("row")
    return frame.with_columns(pl.col("row").cast(pl.Int64)).to_arrow()


USERS = [f"u{number}" for number in range(8)]
DORMANT = next(f"d{number}" for number in range(99) if bucket_of(f"d{number}", 4) not in {bucket_of(user, 4) for user in USERS[:3]})
ACTIVE = [user for user in USERS if bucket_of(user, 4) != bucket_of(DORMANT, 4)]
DORMANT_ROWS = pl.DataFrame(log([DORMANT], range(30))).with_columns(row=pl.col("row") + 9999).to_arrow()
YESTERDAY = pa.concat_tables([log(ACTIVE, range(60)), DORMANT_ROWS])


@pytest.fixture(scope="module")
def yesterday(tmp_path_factory) -> Ingested:
    return ingest_here(tmp_path_factory.mktemp("yesterday"), DATA, CUTS, source=source_of(YESTERDAY, ITEMS))


def day(rows: pa.Table, items: pa.Table = ITEMS) -> Source:
    return source_of(rows, items, batch_rows=5)


def files(folder: Path) -> dict[str, bytes]:
    return {file.parent.name: file.read_bytes() for file in bucket_files(folder)}


def test_a_day_appended_is_the_whole_log_at_once(yesterday, tmp_path):
    """With its new user and new item; the same rows, splits, counts, audit and digest of the content."""
    new_items = catalogue(*ITEMS["title"].to_pylist(), "New")
    rows = log([*ACTIVE[:2], "new"], range(60, 63), first_item=8)
    built, _ = append(day(rows, new_items), str(yesterday.folder), DATA, str(tmp_path / "appended"), map)
    numbered = pl.DataFrame(rows).with_columns(row=pl.col("row") + (1 << FILE_BITS)).to_arrow()
    cuts = SplitSection(valid_from=iso(FIRST + 50 * HOUR), test_from=iso(FIRST + 60 * HOUR))
    whole = ingest_here(tmp_path / "whole", DATA, cuts, source=source_of(pa.concat_tables([YESTERDAY, numbered]), new_items))
    for name in ("items", "counts"):
        assert pq.read_table(tmp_path / f"appended/{name}.parquet").equals(pq.read_table(tmp_path / f"whole/{name}.parquet"))
    assert built.facts == whole.facts
    assert list(built.findings) == list(whole.findings)
    assert files(tmp_path / "appended") == files(tmp_path / "whole")


def test_buckets_without_new_rows_or_splits_are_copied(yesterday, tmp_path):
    """The dormant user's bucket has train rows alone; those of active users change even without a new row, for their splits move on."""
    built, num_copied = append(day(log(ACTIVE[:1], range(60, 62))), str(yesterday.folder), DATA, str(tmp_path), map)
    before, after = files(yesterday.folder), files(tmp_path)
    assert num_copied == 1
    assert {name for name in before if before[name] == after[name]} == {f"bucket={bucket_of(DORMANT, 4):03d}"}
    assert built.facts["splits"]["test"]["num_rows"] == 2
    assert not (tmp_path / "spill").exists()


def test_days_follow_one_another(yesterday, tmp_path):
    """Test rows are valid a day later and train two days later."""
    for number, before in ((0, yesterday.folder), (1, tmp_path / "0"), (2, tmp_path / "1")):
        append(day(log(ACTIVE, range(60 + number, 61 + number))), str(before), DATA, str(tmp_path / str(number)), map)
    rows = pl.concat([pl.read_parquet(file) for file in bucket_files(tmp_path / "2")])
    newest = {split: (part["ts"].max() - FIRST) // HOUR for (split,), part in rows.partition_by("split", as_dict=True).items()}
    assert newest == {"train": 60, "valid": 61, "test": 62}
    assert rows["row"].n_unique() == rows.height == YESTERDAY.num_rows + 3 * len(ACTIVE)


def test_bad_rows_are_set_aside_and_added_up(yesterday, tmp_path):
    rows = pl.DataFrame(log(ACTIVE, range(60, 64))).with_columns(user_id=pl.when(pl.col("row") == 1).then(None).otherwise("user_id"))
    built, _ = append(day(rows.to_arrow()), str(yesterday.folder), DATA.model_copy(update={"max_bad_share": 0.5}), str(tmp_path), map)
    assert built.facts["quarantined"] == {"user_id is null or empty": 1}
    assert sum(pq.read_metadata(file).num_rows for file in (tmp_path / "quarantine").iterdir()) == 1
    again, _ = append(day(log(ACTIVE, range(64, 65))), str(tmp_path), DATA, str(tmp_path / "again"), map)
    assert again.facts["quarantined"] == {"user_id is null or empty": 1}


def test_repeats_of_what_was_met_before_are_left_out_where_asked(yesterday, tmp_path):
    rows = pl.DataFrame(log(ACTIVE[:1], range(60, 62))).with_columns(
        item_id=pl.when(pl.col("row") == 0).then(pl.lit("i3")).otherwise("item_id")
    )
    kept, _ = append(day(rows.to_arrow()), str(yesterday.folder), DATA, str(tmp_path / "keep"), map)
    assert {finding.check for finding in kept.findings if finding.num_rows} == {"pair_in_two_splits", "target_in_its_history"}
    first, _ = append(
        day(rows.to_arrow()), str(yesterday.folder), DATA.model_copy(update={"repeats": "first"}), str(tmp_path / "first"), map
    )
    assert first.facts["left_out"] == {"repeats of a user and item": 1}
    assert first.facts["splits"]["test"]["num_rows"] == 1


@pytest.mark.parametrize(
    "window", [{"before": iso(FIRST + 60 * HOUR)}, {"since": iso(FIRST + 99 * HOUR)}], ids=lambda window: next(iter(window))
)
def test_a_day_is_read_whatever_cut_the_runs_own_log(yesterday, tmp_path, window):
    rows = log(ACTIVE[:1], range(60, 62))
    built, _ = append(day(rows), str(yesterday.folder), DATA.model_copy(update=window), str(tmp_path), map)
    assert built.facts["splits"]["test"]["num_rows"] == rows.num_rows


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (log(ACTIVE, range(59, 62)), "they overlap"),
        (log(ACTIVE, range(60, 61)).slice(0, 0), "interactions has no usable row"),
        (log(ACTIVE, range(60, 61)).drop_columns(["label"]), "neither a column rating nor a column label"),
        (log(ACTIVE, range(60, 61), first_item=500), "item_id is not among the items"),
    ],
)
def test_a_day_that_cannot_be_appended(yesterday, tmp_path, rows, says):
    with pytest.raises(DataError, match=says):
        append(day(rows), str(yesterday.folder), DATA, str(tmp_path), map)
    assert not (tmp_path / "spill").exists()


@pytest.mark.parametrize("data", [{"label_rule": "top_box"}, {"label_rule": "implicit"}, {"repeats": "last"}])
def test_rules_that_judge_old_rows_by_new_ones_are_refused(data):
    with pytest.raises(ConfigError, match="cannot be appended"):
        open_day(DATA.model_copy(update=data), RefreshSection(path="day"), 7)


def test_items_of_their_own_are_for_sources_that_have_them():
    with pytest.raises(ConfigError, match="items beside the log"):
        open_day(DATA, RefreshSection(path="day", items_path="items"), 7)
