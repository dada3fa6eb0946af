"""Ingest in one process: from a source to the artefact's tables, facts and findings; the same whatever the blocks and buckets."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ingested import Ingested, ingest_here, source_of

from thinkrec.artefacts.ingest import INTERACTIONS, ITEMS, TRUTH, bucket_files, read_users
from thinkrec.config.data import DataSection, SplitSection, WorldSection
from thinkrec.data import blocks, fingerprint, ingest
from thinkrec.data.ingest import num_buckets_for, warnings
from thinkrec.data.readers import world
from thinkrec.errors import ArtefactError, DataError, StageFailed

WORLD = DataSection(world=WorldSection(num_users=60, num_items=100, interactions_per_user=20))
CANONICAL = DataSection(source="canonical", path="unused")


def planted() -> tuple[pa.Table, pa.Table, pa.Table]:
    """Log, items and truth of the world."""
    made = world.read(WORLD, 7)
    return next(made.interactions).rows, next(made.items).rows, made.truth


@pytest.fixture(scope="module")
def ready(tmp_path_factory) -> Ingested:
    return ingest_here(tmp_path_factory.mktemp("ready"), WORLD)


def test_the_world_comes_through_whole_and_clean(ready):
    assert ready.interactions.columns == INTERACTIONS.names
    schemas = {name: pq.read_schema(ready.folder / f"{name}.parquet") for name in ("items", "truth")}
    assert schemas == {"items": ITEMS, "truth": TRUTH}
    assert pl.read_parquet(ready.folder / "truth.parquet")["row"].to_list() == ready.interactions["row"].to_list()
    assert ready.quarantine.is_empty()
    assert sum(finding.num_rows for finding in ready.findings) == 0
    assert read_users(ready.folder).to_list() == sorted(set(ready.interactions["user_id"]))
    assert not (ready.folder / "spill").exists()


def test_cold_items_and_users_are_absent_from_train(ready):
    train = ready.interactions.filter(pl.col("split") == "train")
    cells = ready.facts["cells"]["test"]
    assert cells["user_seen_item_new"] > 0
    assert cells["user_new_item_seen"] > 0
    assert train["item_id"].n_unique() <= 90  # 10 of 100 are cold
    assert train["user_id"].n_unique() <= 57  # 3 of 60 are cold


def test_dated_texts_are_audited_and_the_dates_stay_behind(ready, tmp_path):
    rows, items, _ = planted()
    late = pa.array([ready.interactions["ts"].max() + 1] * 2 + [None] * 98, pa.int64())
    dated = ingest_here(tmp_path, WORLD, source=source_of(rows, items.append_column("ts", late)))
    found = {finding.check: finding.num_rows for finding in dated.findings if finding.num_rows}
    two = dated.items["item_id"].to_list()[:2]
    assert found == {"text_of_the_future": ready.interactions.filter(pl.col("item_id").is_in(two)).height}
    assert pq.read_schema(tmp_path / "items.parquet") == ITEMS


def test_truth_follows_the_rows_that_stay(ready, tmp_path):
    rows, items, truth = planted()
    gap = pl.DataFrame(rows).with_columns(user_id=pl.when(pl.col("row") == 5).then(None).otherwise("user_id")).to_arrow()
    holed = ingest_here(tmp_path, WORLD, source=source_of(gap, items, truth=truth))
    kept = pl.read_parquet(tmp_path / "truth.parquet")
    assert 5 not in kept["row"].to_list()
    assert kept.height == holed.interactions.height == ready.interactions.height - 1


def test_the_fingerprint_counts_what_is_there(ready):
    rows, facts = ready.interactions, ready.facts
    assert (facts["num_rows"], facts["num_users"], facts["num_items"]) == (rows.height, rows["user_id"].n_unique(), 100)
    train = rows.filter(split="train")
    for name, split in facts["splits"].items():
        part = rows.filter(pl.col("split") == name)
        assert (split["num_rows"], split["num_users"], split["num_items"]) == (
            part.height,
            part["user_id"].n_unique(),
            part["item_id"].n_unique(),
        )
        assert split["like_rate"] == pytest.approx(part["label"].mean(), abs=1e-12)
        rates = part.group_by("user_id").agg(pl.col("label").mean())["label"]
        deciles = [rates.quantile(tenth / 10, "linear") for tenth in range(1, 10)]
        assert split["user_like_rate_deciles"] == pytest.approx(deciles, abs=1e-12)
    test = rows.filter(split="test")
    new = test.filter(~pl.col("user_id").is_in(train["user_id"].implode()) & ~pl.col("item_id").is_in(train["item_id"].implode()))
    assert facts["cells"]["test"]["user_new_item_new"] == new.height
    assert sum(facts["cells"]["test"].values()) == test.height
    assert fingerprint.headline(facts)["num_test"] == test.height


def test_the_digest_sees_one_changed_label_and_the_order_of_the_items(ready, tmp_path):
    rows, items, _ = planted()
    given = pl.DataFrame(rows).with_columns(label=pl.lit(1, pl.Int64))
    given = given.with_columns(label=pl.when(pl.col("row") % 2 == 0).then(0).otherwise("label").cast(pl.Int64))
    changed = given.with_columns(label=pl.when(pl.col("row") == 3).then(1 - pl.col("label")).otherwise("label"))
    backwards = pl.DataFrame(items).reverse().to_arrow()
    logs = {"one": (given.to_arrow(), items), "changed": (changed.to_arrow(), items), "items": (given.to_arrow(), backwards)}
    digests = {name: ingest_here(tmp_path / name, WORLD, source=source_of(*log)).facts["sha256"] for name, log in logs.items()}
    assert len({*digests.values()}) == 3


def messy(num_rows: int = 4000) -> tuple[pa.Table, pa.Table]:
    """A log of repeats, ties and unusable rows, and its items."""
    rng = np.random.default_rng(3)
    rows = pl.DataFrame(
        {
            "row": np.arange(num_rows),
            "user_id": [f"u{n}" for n in rng.integers(0, 90, num_rows)],
            "item_id": [f"i{n}" for n in rng.integers(0, 60, num_rows)],
            "ts": 1_600_000_000_000 + rng.integers(0, 3000, num_rows),
            "rating": rng.integers(1, 6, num_rows).astype(np.float32),
        }
    )
    spoilt = rows.with_columns(
        item_id=pl.when(pl.col("row") % 97 == 5).then(pl.lit("z")).otherwise("item_id"),
        user_id=pl.when(pl.col("row") % 89 == 7).then(None).otherwise("user_id"),
    )
    items = pl.DataFrame({"item_id": [f"i{n}" for n in range(50)], "title": [f"T{n // 2}" for n in range(50)]})
    return spoilt.to_arrow(), items.with_columns(text=pl.lit(None, pl.String), categories=pl.lit(None, pl.List(pl.String))).to_arrow()


SETTINGS = {
    "as it is": {},
    "by the user's median, the first of each pair": {"label_rule": "user_median", "repeats": "first"},
    "active ones, by the highest rating": {"label_rule": "top_box", "min_rows": 45},
    "drawn dislikes": {"label_rule": "implicit", "repeats": "last", "min_rows": 30},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_blocks_batches_and_buckets_change_nothing_but_the_files(settings, tmp_path, monkeypatch):
    rows, items = messy()
    data = CANONICAL.model_copy(update={"max_bad_share": 0.3, **settings})
    whole = ingest_here(tmp_path / "whole", data.model_copy(update={"num_buckets": 1}), source=source_of(rows, items))
    monkeypatch.setattr(ingest, "blocks", lambda batches: blocks.blocks(batches, 700))
    split = ingest_here(tmp_path / "split", data.model_copy(update={"num_buckets": 7}), source=source_of(rows, items, 300))
    automatic = ingest_here(tmp_path / "automatic", data, source=source_of(rows, items, 300))
    assert len(bucket_files(tmp_path / "split")) > 4
    for other in (split, automatic):
        assert other.interactions.equals(whole.interactions)
        assert other.quarantine.sort("source", "row").equals(whole.quarantine.sort("source", "row"))
        assert other.findings == whole.findings
        assert other.doubts == whole.doubts
        apart = {"num_buckets", "bucket_rows"}
        assert {key: value for key, value in other.facts.items() if key not in apart} == {
            key: value for key, value in whole.facts.items() if key not in apart
        }
    assert any(finding.num_rows for finding in whole.findings if finding.severity == "stop") == ("repeats" not in settings)


def test_the_number_of_buckets_follows_the_rows():
    assert [num_buckets_for(num_rows) for num_rows in (0, 10**6, 8 * 10**6, 20 * 10**6, 10**8, 10**10)] == [8, 8, 8, 32, 128, 256]


def test_a_file_of_the_shuffle_that_vanished_is_named(tmp_path):
    rows, items = messy()

    def forgetful(function, values):
        for value in values:
            yield function(value)
            for file in (tmp_path / "spill/gathered").glob("*3.arrow"):
                file.unlink()

    with pytest.raises(StageFailed, match="gone or torn") as caught:
        ingest_here(tmp_path, CANONICAL.model_copy(update={"max_bad_share": 0.3}), source=source_of(rows, items), mapper=forgetful)
    assert caught.value.where.endswith("spill/gathered/00003.arrow")
    assert "run the same command again" in caught.value.fix


def test_a_bucket_that_vanished_from_the_artefact_is_named(tmp_path):
    made = ingest_here(tmp_path, WORLD.model_copy(update={"num_buckets": 3}))
    (tmp_path / "interactions/bucket=001/part-0.parquet").unlink()
    with pytest.raises(ArtefactError, match=f"{made.facts['bucket_rows'][1]} rows of a bucket is gone") as caught:
        bucket_files(tmp_path)
    assert caught.value.where.endswith("interactions/bucket=001")
    assert len(bucket_files(tmp_path, [0, 2])) == 2


def one_user(num_rows: int, **columns: object) -> tuple[pa.Table, pa.Table]:
    """The rows of one very busy user, each of another time, of 500 items."""
    n = pl.int_range(num_rows, dtype=pl.Int64, eager=True)
    rows = pl.DataFrame({"row": n, "user_id": pl.Series(["u"]).extend_constant("u", num_rows - 1), "ts": 1_600_000_000_000 + n})
    rows = rows.with_columns(item_id=pl.format("i{}", n % 500), rating=(1 + n % 5).cast(pl.Float32)).with_columns(**columns)
    items = pl.DataFrame({"item_id": [f"i{k}" for k in range(500)], "title": ["A title"] * 500})
    return rows.to_arrow(), items.with_columns(text=pl.lit(None, pl.String), categories=pl.lit(None, pl.List(pl.String))).to_arrow()


def test_a_user_of_a_million_rows_is_one_bucket(tmp_path):
    made = ingest_here(tmp_path, CANONICAL, source=source_of(*one_user(10**6), 2**16))
    assert sorted(made.facts["bucket_rows"]) == [0] * 7 + [10**6]
    assert {finding.check: finding.num_rows for finding in made.findings}["target_in_its_history"] == 10**6 - 500
    assert made.facts["splits"]["train"]["num_rows"] == 7 * 10**5


def test_times_that_are_all_equal_cannot_be_split(tmp_path):
    rows, items = one_user(1000, ts=pl.lit(1_600_000_000_000))
    with pytest.raises(DataError, match="the train split is empty") as caught:
        ingest_here(tmp_path, CANONICAL, source=source_of(rows, items))
    assert "2020-09-13T12:26:40" in caught.value.where


def test_rows_of_an_endless_item_id_are_refused_with_its_beginning(tmp_path):
    rows, items = one_user(100, item_id=pl.lit("i" * 10_000))
    with pytest.raises(DataError, match="item_id is longer than 200 characters: 100") as caught:
        ingest_here(tmp_path, CANONICAL, source=source_of(rows, items))
    assert len(caught.value.where) < 1000
    endless = pl.DataFrame(items).with_columns(item_id=pl.col("item_id").replace("i0", "i" * 10_000)).to_arrow()
    made = ingest_here(tmp_path, CANONICAL.model_copy(update={"max_bad_share": 0.1}), source=source_of(one_user(1000)[0], endless))
    assert made.facts["quarantined"] == {"item_id is longer than 200 characters": 1, "item_id is not among the items": 2}


def test_a_hundred_thousand_refused_rows_are_all_kept(tmp_path):
    rows, items = one_user(2 * 10**5, item_id=pl.when(pl.col("row") % 2 == 0).then(pl.lit("gone")).otherwise("item_id"))
    made = ingest_here(tmp_path, CANONICAL.model_copy(update={"max_bad_share": 0.5}), source=source_of(rows, items))
    assert made.facts["quarantined"] == {"item_id is not among the items": 10**5}
    assert made.quarantine["row"].to_list() == list(range(0, 2 * 10**5, 2))


def test_a_moving_like_rate_is_worth_a_warning(ready):
    splits = {
        name: split | {"like_rate": rate} for (name, split), rate in zip(ready.facts["splits"].items(), (0.5, 0.53, 0.6), strict=True)
    }
    assert warnings(ready.facts | {"splits": splits}) == ["the like rate moves from 0.500 in train to 0.600 in test"]


def test_a_source_can_be_an_earlier_artefact(ready, tmp_path):
    """What ingest writes is what the canonical reader reads."""
    data = DataSection(source="canonical", path=str(ready.folder))
    again = ingest_here(tmp_path, data, SplitSection(mode="given"))
    columns = ["user_id", "ts", "item_id", "rating", "label", "split"]  # rows are counted anew
    assert again.interactions.select(columns).sort(columns).equals(ready.interactions.select(columns).sort(columns))
    assert again.items.equals(ready.items)


def test_the_data_room_imports_no_heavy_engine():
    heavy = ("torch", "ray", "vllm", "faiss")
    code = f"import sys, thinkrec.data.ingest, thinkrec.data.interactions; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_an_artefact_lies_where_it_is_asked_for(ready):
    assert {path.relative_to(ready.folder).parts[0] for path in Path(ready.folder).rglob("*") if path.is_file()} == {
        *("interactions", "quarantine", "items.parquet", "counts.parquet"),
        *("truth.parquet", "audit.json", "fingerprint.json"),
    }
