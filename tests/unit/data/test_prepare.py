"""Ingest without Ray: from a source to checked tables and their fingerprint."""

import hashlib
import subprocess
import sys
from dataclasses import replace

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from thinkrec.artefacts.ingest import INTERACTIONS, ITEMS, TRUTH, USERS
from thinkrec.config.data import DataSection, SplitSection, WorldSection
from thinkrec.data import fingerprint
from thinkrec.data.ingest import Prepared, prepare, read, warnings, write_bucket

WORLD = DataSection(world=WorldSection(num_users=60, num_items=100, interactions_per_user=20))


@pytest.fixture(scope="module")
def ready() -> Prepared:
    return prepare(read(WORLD, 7), WORLD, SplitSection(), 7)


def test_the_world_comes_through_whole_and_clean(ready):
    assert ready.interactions.columns == INTERACTIONS.names
    assert (ready.items.schema, ready.users.schema, ready.truth.schema) == (ITEMS, USERS, TRUTH)
    assert ready.truth["row"].to_pylist() == ready.interactions["row"].to_list()
    assert ready.quarantine.num_rows == 0
    assert sum(finding.num_rows for finding in ready.findings) == 0
    assert ready.users["user_id"].to_pylist() == sorted(set(ready.interactions["user_id"]))


def test_cold_items_and_users_are_absent_from_train(ready):
    train = ready.interactions.filter(pl.col("split") == "train")
    cells = fingerprint.take(ready.interactions, ready.items, ready.quarantine)["cells"]["test"]
    assert cells["user_seen_item_new"] > 0
    assert cells["user_new_item_seen"] > 0
    assert train["item_id"].n_unique() <= 90  # 10 of 100 are cold
    assert train["user_id"].n_unique() <= 57  # 3 of 60 are cold


def test_dated_texts_are_audited_and_the_dates_stay_behind(ready):
    tables = read(WORLD, 7)
    late = pa.array([ready.interactions["ts"].max() + 1] * 2 + [None] * 98, pa.int64())
    dated = prepare(replace(tables, items=tables.items.append_column("ts", late)), WORLD, SplitSection(), 7)
    found = {finding.check: finding.num_rows for finding in dated.findings if finding.num_rows}
    two = dated.items["item_id"].to_pylist()[:2]
    assert found == {"text_of_the_future": ready.interactions.filter(pl.col("item_id").is_in(two)).height}
    assert dated.items.schema == ITEMS


def test_truth_follows_the_rows_that_stay(ready):
    tables = read(WORLD, 7)
    gap = pl.DataFrame(tables.interactions).with_columns(user_id=pl.when(pl.col("row") == 5).then(None).otherwise("user_id")).to_arrow()
    holed = prepare(type(tables)(tables.source, gap, tables.items, tables.truth), WORLD, SplitSection(), 7)
    assert 5 not in holed.truth["row"].to_pylist()
    assert holed.truth.num_rows == holed.interactions.height == ready.truth.num_rows - 1


def test_the_fingerprint_counts_what_is_there(ready):
    rows = ready.interactions
    facts = fingerprint.take(rows, ready.items, ready.quarantine)
    assert (facts["num_rows"], facts["num_users"], facts["num_items"]) == (rows.height, rows["user_id"].n_unique(), 100)
    for name, split in facts["splits"].items():
        part = rows.filter(pl.col("split") == name)
        assert split["num_rows"] == part.height
        assert split["like_rate"] == pytest.approx(part["label"].mean())
    assert sum(facts["cells"]["test"].values()) == facts["splits"]["test"]["num_rows"]
    assert fingerprint.headline(facts)["num_test"] == facts["splits"]["test"]["num_rows"]


def test_the_digest_sees_one_changed_label_and_no_change_of_layout(ready):
    rows, items = ready.interactions, pl.DataFrame(ready.items)
    digest = fingerprint.content_digest(rows, items)
    assert digest == fingerprint.content_digest(pl.concat([rows.slice(0, 100), rows.slice(100)], rechunk=False), items)
    changed = rows.with_columns(label=pl.when(pl.col("row") == 3).then(1 - pl.col("label")).otherwise("label"))
    assert digest != fingerprint.content_digest(changed, items)
    assert digest != fingerprint.content_digest(rows, items.reverse())


def test_a_bucket_is_sorted_and_the_same_bytes_whatever_the_order_of_its_rows(ready, tmp_path):
    rows = ready.interactions.with_columns(bucket=pl.lit(3))
    digests = []
    for name, order in (("one", rows), ("two", rows.sample(fraction=1, shuffle=True, seed=1))):
        assert write_bucket(order.to_arrow(), f"file://{tmp_path}/{name}")["num_rows"].to_pylist() == [rows.height]
        file = tmp_path / name / "interactions" / "bucket=003" / "part-0.parquet"
        digests.append(hashlib.sha256(file.read_bytes()).hexdigest())
    assert digests[0] == digests[1]
    written = pq.ParquetFile(file)
    assert written.schema_arrow == INTERACTIONS
    assert written.metadata.row_group(0).column(0).compression == "ZSTD"
    assert pl.DataFrame(written.read()).equals(ready.interactions.sort("user_id", "ts", "row"))


def test_a_moving_like_rate_is_worth_a_warning(ready):
    facts = fingerprint.take(ready.interactions, ready.items, ready.quarantine)
    facts["splits"] = {
        name: split | {"like_rate": rate} for (name, split), rate in zip(facts["splits"].items(), (0.5, 0.53, 0.6), strict=True)
    }
    assert warnings(facts) == ["the like rate moves from 0.500 in train to 0.600 in test"]


def test_a_source_can_be_an_earlier_artefact(ready, tmp_path):
    """What ingest writes is what the canonical reader reads."""
    write_bucket(ready.interactions.with_columns(bucket=pl.lit(0)).to_arrow(), str(tmp_path))
    pq.write_table(ready.items, tmp_path / "items.parquet")
    data = DataSection(source="canonical", path=str(tmp_path))
    again = prepare(read(data, 0), data, SplitSection(mode="given"), 0)
    columns = pl.exclude("row")  # counted anew, in order of user and time
    assert again.interactions.select(columns).equals(ready.interactions.sort("user_id", "ts", "row").select(columns))
    assert again.items == ready.items


def test_the_data_room_imports_no_heavy_engine():
    heavy = ("torch", "ray", "vllm", "faiss")
    code = f"import sys, thinkrec.data.ingest, thinkrec.data.interactions; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
