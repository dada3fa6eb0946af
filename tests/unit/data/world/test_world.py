"""The planted world: what is planted is there, can be found by the best judge, and its controls lack it."""

import re
from hashlib import sha256

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from thinkrec.artefacts.ingest import ITEMS, TRUTH
from thinkrec.config.data import WorldSection
from thinkrec.data.world.tastes import draw_tastes
from thinkrec.data.world.texts import DISTRACTORS, FACETS
from thinkrec.data.world.world import World, draw_weights, make_world
from thinkrec.errors import ConfigError

SMALL = WorldSection(num_users=60, num_items=100, interactions_per_user=20)


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(WorldSection(), 7)


def parquet_digests(world: World) -> list[str]:
    digests = []
    for table in (world.interactions, world.items, world.truth):
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        digests.append(sha256(sink.getvalue()).hexdigest())
    return digests


def logs(world: World) -> pl.DataFrame:
    """Interactions with their truth, one row each."""
    return pl.DataFrame(world.interactions).with_columns(pl.DataFrame(world.truth)).with_columns(like=pl.col("rating") > 3)


def mean_conflict(world: World) -> float:
    """Correlation, over items, of what pure users of two different logics think of the same item; 1.0 if there is one logic."""
    opinions = logs(world).filter(~pl.col("mixed")).group_by("item_id", "logic").agg(pl.col("p_like").mean())
    wide = opinions.pivot("logic", index="item_id", values="p_like").drop("item_id").drop_nulls().to_numpy()
    return float(np.corrcoef(wide.T)[0, -1]) if wide.shape[1] > 1 else 1.0


def facets_shown(text: str) -> list[str]:
    return [word for word in re.findall("[a-z]+", text.lower()) if word in FACETS]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not():
    assert parquet_digests(make_world(SMALL, 3)) == parquet_digests(make_world(SMALL, 3))
    assert not set(parquet_digests(make_world(SMALL, 3))) & set(parquet_digests(make_world(SMALL, 4)))


def test_tables_keep_their_schemas(world):
    assert world.items.schema == ITEMS
    assert world.truth.schema == TRUTH
    assert world.truth["row"].to_pylist() == list(range(world.interactions.num_rows))
    assert set(world.interactions["rating"].to_pylist()) == {1.0, 5.0}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_best_judge_reaches_the_promised_auc(seed):
    log = logs(make_world(WorldSection(), seed))
    assert 0.82 < roc_auc_score(log["like"], log["p_like"]) < 0.88
    assert 0.42 < log["like"].mean() < 0.58


def test_labels_follow_their_probabilities(world):
    by_decile = (
        logs(world).group_by(decile=(pl.col("p_like") * 10).floor()).agg(p=pl.col("p_like").mean(), like=pl.col("like").mean(), n=pl.len())
    )
    four_errors = 4 * (by_decile["p"] * (1 - by_decile["p"]) / by_decile["n"]).sqrt()
    assert ((by_decile["p"] - by_decile["like"]).abs() < four_errors).all()


def test_label_flip_bounds_the_probabilities():
    p_like = make_world(SMALL.model_copy(update={"label_flip": 0.2}), 0).truth["p_like"].to_numpy()
    assert 0.2 <= p_like.min() < 0.25
    assert 0.75 < p_like.max() <= 0.8


def test_two_logics_conflict_and_one_logic_does_not(world):
    assert mean_conflict(world) < -0.1
    assert mean_conflict(make_world(WorldSection(num_logics=1), 7)) == 1.0
    one = make_world(SMALL.model_copy(update={"num_logics": 1}), 0).truth
    assert not any(one["mixed"].to_pylist())
    assert set(one["logic"].to_pylist()) == {0}


@pytest.mark.parametrize("num_logics", [2, 3, 4])
def test_logics_are_opposite_on_half_of_the_facets_and_free_on_the_rest(num_logics):
    settings = WorldSection(num_logics=num_logics, num_facets=40)
    facets = np.array([np.random.default_rng(item).permutation(40)[:3] for item in range(300)])
    tastes = draw_tastes(settings, facets, np.random.default_rng(0)).worth
    utility = tastes[:, facets].sum(axis=2)
    assert np.allclose(utility.mean(axis=1), 0)
    assert np.allclose(utility.std(axis=1), 1)
    num_likes = (tastes > 0).sum(axis=0)
    balanced = np.isin(num_likes, [num_logics // 2, num_logics - num_logics // 2])
    assert balanced.sum() >= 18  # two may have crossed 0 when the tastes were centred
    assert (~balanced).any()


def test_mixed_users_follow_two_logics_for_real():
    weights = draw_weights(WorldSection(num_users=1000, num_logics=3, mixed_share=0.4), np.random.default_rng(0))
    assert np.allclose(weights.sum(axis=1), 1)
    mixed = weights[(weights > 0).sum(axis=1) > 1]
    assert 0.34 < len(mixed) / 1000 < 0.46
    assert ((weights > 0).sum(axis=1) <= 2).all()
    assert mixed[mixed > 0].min() >= 0.3 - 1e-9
    assert mixed.max() <= 0.7 + 1e-9


def test_nobody_meets_an_item_twice_and_popularity_is_skewed(world):
    log = logs(world)
    assert not log.select("user_id", "item_id").is_duplicated().any()
    counts = log["item_id"].value_counts()["count"].sort(descending=True)
    assert counts.head(30).sum() > 2 * counts.tail(30).sum()
    per_user = log["user_id"].value_counts()["count"]
    assert 34 < per_user.mean() < 46
    assert per_user.std() > 10


def test_cold_items_and_users_begin_behind_the_test_cut(world):
    log = logs(world).sort("ts")
    cut = log["ts"][int(0.85 * len(log))]
    first_item = log.group_by("item_id").agg(pl.col("ts").min())
    first_user = log.group_by("user_id").agg(pl.col("ts").min())
    assert (first_item["ts"] >= cut).sum() >= 30  # 10 % of 300
    assert (first_user["ts"] >= cut).sum() >= 30  # 5 % of 600
    none = logs(make_world(WorldSection(cold_item_share=0, cold_user_share=0), 7)).sort("ts")
    assert (none.group_by("item_id").agg(pl.col("ts").min())["ts"] >= cut).sum() == 0


def test_rows_come_in_bursts_in_order_of_time(world):
    log = logs(world)
    assert log["ts"].is_sorted()
    gaps = log.sort("user_id", "ts").select(pl.col("ts").diff().over("user_id") / 60_000).drop_nulls().to_series()
    assert gaps.median() < 5  # minutes
    assert gaps.mean() > 1000
    assert gaps.min() > 0


def test_a_text_shows_exactly_the_facets_among_distractors(world):
    items = pl.DataFrame(world.items)
    reasons = dict(logs(world).select("item_id", pl.col("reason").list.sort()).unique().iter_rows())
    for item_id, _, text, categories in items.iter_rows():
        assert sorted(facets_shown(text)) == reasons[item_id]
        assert sum(word in DISTRACTORS for word in re.findall("[a-z]+", text)) >= 3
        assert categories in (None, reasons[item_id])
    assert items["categories"].null_count() == 180  # 40 % of 300 are annotated
    assert not set(FACETS) & set(DISTRACTORS)
    assert len(set(FACETS)) == len(FACETS) >= 40


def test_titles_are_unique_and_opaque(world):
    titles = world.items["title"].to_pylist()
    assert len(set(titles)) == len(titles)
    assert all(re.fullmatch("[A-Z][a-z]+ [A-Z][a-z]+", title) for title in titles)
    assert not {word.lower() for title in titles for word in title.split()} & {*FACETS, *DISTRACTORS}


def test_the_shuffled_control_keeps_labels_and_loses_the_link():
    true, control = (make_world(SMALL.model_copy(update={"keywords": kind}), 5) for kind in ("true", "shuffled"))
    assert true.interactions == control.interactions
    assert true.truth == control.truth
    assert true.items["title"] == control.items["title"]
    assert sorted(true.items["text"].to_pylist()) == sorted(control.items["text"].to_pylist())
    moved = [a != b for a, b in zip(true.items["text"].to_pylist(), control.items["text"].to_pylist(), strict=True)]
    assert np.mean(moved) > 0.9
    texts, categories = control.items["text"].to_pylist(), control.items["categories"].to_pylist()
    assert all(sorted(facets_shown(text)) == words for text, words in zip(texts, categories, strict=True) if words)


def test_reasons_name_the_facet_that_decided_first(world):
    """A facet that stands first where the item is liked must be one that its logic likes on average."""
    log = logs(world).filter(~pl.col("mixed"), pl.col("logic") == 0).with_columns(first=pl.col("reason").list.first())
    with_facet = log.explode("reason").group_by(facet="reason").agg(worth=pl.col("p_like").mean())
    first = log.join(with_facet, left_on="first", right_on="facet").with_columns(verdict=pl.col("p_like") >= 0.5)
    liked, disliked = (first.filter(pl.col("verdict") == verdict)["worth"].mean() for verdict in (True, False))
    assert liked > disliked + 0.2


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"num_facets": 1000}, "data.world.num_facets"),
        ({"facets_per_item": 24}, "data.world.facets_per_item"),
        ({"num_items": 50}, "data.world.interactions_per_user"),
        ({"cold_user_share": 0.4}, "data.world.cold_user_share"),
    ],
)
def test_impossible_worlds_are_refused_by_key(change, key):
    with pytest.raises(ConfigError) as caught:
        make_world(WorldSection(**change), 0)
    assert caught.value.where == key
