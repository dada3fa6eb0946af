"""The stage on a small ingest artefact: what it leaves, bucket by bucket, and that a stored prior says the same of the same rows."""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from thinkrec.artefacts import ingest
from thinkrec.artefacts.prior import OFFSETS, read_offsets, scan_offsets
from thinkrec.data.buckets import count
from thinkrec.data.spill import with_bucket
from thinkrec.errors import ArtefactError
from thinkrec.job import Job
from thinkrec.prior import stage
from thinkrec.prior.stored import read_prior
from thinkrec.store.artefacts import Store

NUM_BUCKETS = 3


def log_of(rows):
    later = ~rows.is_train
    return pl.DataFrame(
        {
            "user_id": [f"u{name}" for name in rows.user],
            "item_id": [f"i{name:02d}" for name in rows.item],
            "ts": rows.milliseconds,
            "rating": pl.Series([None] * len(rows.user), dtype=pl.Float32),
            "label": rows.label.astype(np.int8),
            "split": np.where(later, np.where(rows.user % 2, "valid", "test"), "train"),
            "row": 3 * np.arange(len(rows.user)),  # ties keep their order
        }
    )


@pytest.fixture(scope="module")
def log(planted):
    return log_of(planted.rows)


def artefacts(log, root):
    """ingest and keywords as the stage reads them."""
    store, made = Store(str(root)), {}
    with store.create("ingest", "key0", {}, {}) as draft:
        rows = with_bucket(log, NUM_BUCKETS)
        for bucket in range(NUM_BUCKETS):
            mine = rows.filter(pl.col("bucket") == bucket).select(ingest.INTERACTIONS.names).sort("user_id", "ts", "row")
            ingest.write_bucket(draft.shared(), bucket, mine.to_arrow())
        items = pl.DataFrame({"item_id": [f"i{name:02d}" for name in range(60)]})
        items = items.with_columns(title=pl.lit("A film (1990)"), text=pl.lit(None, pl.String), categories=pl.lit(None, pl.List(pl.String)))
        items.write_parquet(draft.local() / "items.parquet")
        pq.write_table(count(rows), draft.local() / "counts.parquet")
        ingest.write_fingerprint(draft.local(), {"num_buckets": NUM_BUCKETS})
    with store.create("keywords", "key0", {}, {}) as draft:
        words = [["war", "love"][: 1 + name % 2] for name in range(60)]
        pl.DataFrame({"item_id": items["item_id"], "keywords": words}).write_parquet(draft.local() / "keywords.parquet")
    made = {name: store.find(name, "key0") for name in ("ingest", "keywords")}
    return store, made


def run(log, root, config):
    store, inputs = artefacts(log, root)
    with store.create("prior", "key1", inputs, {}) as draft:
        stage.run(Job(config, inputs, draft, store, "key1", lambda event: None))
    return store.find("prior", "key1")


@pytest.fixture(scope="module")
def made(log, tmp_path_factory):
    from thinkrec.config.run import parse

    return run(log, tmp_path_factory.mktemp("run"), parse({}))


def test_every_row_of_every_split_has_an_offset_in_its_bucket(log, made):
    rows = with_bucket(log, NUM_BUCKETS)
    for bucket in range(NUM_BUCKETS):
        table = pq.read_table(made.path(f"offsets/bucket={bucket:03d}/part-0.parquet"), partitioning=None)
        assert table.schema == OFFSETS
        expected = rows.filter(pl.col("bucket") == bucket).sort("user_id", "ts", "row")["row"].to_list()
        assert table["row"].to_pylist() == expected
    assert scan_offsets(made.path()).collect()["offset"].is_finite().all()


def test_the_figure_is_the_auc_of_the_valid_rows(log, made):
    valid = log.filter(pl.col("split") == "valid").join(scan_offsets(made.path()).collect(), on="row")
    assert made.figures["valid_auc"] == pytest.approx(roc_auc_score(valid["label"], valid["offset"]))
    assert made.figures["valid_auc"] > 0.6


def test_a_stored_prior_says_the_same_of_one_bucket(log, made, tmp_path):
    _, inputs = artefacts(log, tmp_path)
    data, rows = stage.BucketedLog(inputs["ingest"].path(), NUM_BUCKETS, True).load(1)
    again = read_prior(made.path()).offsets(rows.histories(), rows.queries("seen"))
    stored = pl.read_parquet(made.path("offsets/bucket=001/part-0.parquet"))
    np.testing.assert_array_equal(stored["row"], data.row)
    np.testing.assert_array_equal(stored["offset"], again.offset)


def test_offsets_are_read_for_rows_in_any_order_and_a_row_without_one_is_refused(log, made):
    stored = pl.read_parquet(made.path("offsets/bucket=001/part-0.parquet"))
    rows = stored["row"].to_numpy()[[5, 2, 9]]
    for buckets in (None, [1]):
        assert read_offsets(made.path(), rows, buckets).tolist() == stored["offset"].to_numpy()[[5, 2, 9]].tolist()
    assert read_offsets(None, rows).tolist() == [0.0] * 3
    with pytest.raises(ArtefactError, match="1 of 2 rows have no offset"):
        read_offsets(made.path(), np.array([rows[0], -1]))


def test_a_later_label_moves_no_offset(log, made, tmp_path, make_config):
    """The labels of all test rows flipped: each user's rows before them stay as they were to the bit."""
    flipped = log.with_columns(label=pl.when(pl.col("split") == "test").then(1 - pl.col("label")).otherwise(pl.col("label")))
    other = scan_offsets(run(flipped, tmp_path, make_config()).path()).collect()
    both = log.join(scan_offsets(made.path()).collect(), on="row").join(other, on="row", suffix="_other")
    same = both["offset"] == both["offset_other"]
    assert same.filter(both["split"] != "test").all()
    assert not same.filter(both["split"] == "test").all()


def test_a_sample_holds_whole_users(log, tmp_path):
    _, inputs = artefacts(log, tmp_path)
    bucketed = stage.BucketedLog(inputs["ingest"].path(), NUM_BUCKETS, True)
    whole, half = bucketed.sample(10**6), bucketed.sample(len(log) // 2)
    assert len(whole.user) == len(log)
    assert 0.3 < len(half.user) / len(log) < 0.7
    assert set(np.bincount(half.user)) == {20}
    assert len(half.fold) == half.user.max() + 1
