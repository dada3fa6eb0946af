"""The world of rules: what settings turn round cannot be added up, and every row says by which rule it was decided."""

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from thinkrec.config.data import WorldSection
from thinkrec.data.world.tastes import linear_worth, set_again, state_rule
from thinkrec.data.world.world import World, make_world
from thinkrec.errors import ConfigError
from thinkrec.text.phrases import named

SAYS_LIKED = pl.col("trace").str.contains(r"^\w+ is liked")
RULES = WorldSection(taste="rules", num_facets=12, num_users=300, taste_scale=3.0)


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(RULES, 7)


def rows_of(world: World) -> pl.DataFrame:
    """Rows in order of time with their truth; facet and setting of the rule, "" where there is none."""
    rows = pl.DataFrame(world.interactions).with_columns(pl.DataFrame(world.truth)).with_columns(like=pl.col("rating") > 3)
    return rows.with_columns(facet=pl.col("rule").list.get(0), setting=pl.col("rule").list.get(1, null_on_oob=True).fill_null(""))


def areas(world: World) -> tuple[float, float]:
    """AUC of the best judge, and of the best to whom facets only add."""
    rows = rows_of(world)
    return roc_auc_score(rows["like"], rows["p_like"]), roc_auc_score(rows["like"], rows["p_linear"])


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("num_logics", [1, 2])
def test_what_can_be_added_up_is_far_from_the_best_in_the_world_of_rules_and_the_best_in_the_linear_one(seed, num_logics):
    best, linear = areas(make_world(RULES.model_copy(update={"num_logics": num_logics}), seed))
    assert best > 0.84
    assert 0.5 < linear < best - 0.15
    best, linear = areas(make_world(RULES.model_copy(update={"num_logics": num_logics, "taste": "linear"}), seed))
    assert linear == pytest.approx(best, abs=1e-6)


def test_no_weights_of_facets_do_better_than_the_linear_judge(world):
    """A logistic regression that is told the true chances and every user's logic, on the rows of pure users."""
    from sklearn.linear_model import LogisticRegression

    rows = rows_of(world).join(pl.DataFrame(world.items).select("item_id", "text"), on="item_id").filter(~pl.col("mixed"))
    words = sorted(rows.explode("reason")["reason"].unique())
    shown = rows.select([pl.col("reason").list.contains(word).alias(word) for word in words]).to_numpy().astype(float)
    logic = rows["logic"].to_numpy()
    columns = np.hstack([shown * (logic == own)[:, None] for own in (0, 1)])
    found = LogisticRegression(C=100, max_iter=500).fit(columns, rows["like"]).predict_proba(columns)[:, 1]
    assert roc_auc_score(rows["like"], found) < roc_auc_score(rows["like"], rows["p_linear"]) + 0.01


def test_the_least_squares_part_of_a_sum_of_facets_is_the_sum():
    rng = np.random.default_rng(0)
    facets = np.array([rng.permutation(9)[:3] for _ in range(200)])
    worth = rng.normal(size=9)[facets].sum(axis=1)
    assert linear_worth(worth, facets, 9) == pytest.approx(worth)
    product = np.prod(rng.normal(size=9)[facets], axis=1)
    rest = product - linear_worth(product, facets, 9)
    assert rest.std() > 0.1
    assert abs(rest @ worth) < 1e-6  # nothing linear is left


def test_rules_name_facets_of_the_item_and_say_truly_which_way_they_decide(world):
    rows = rows_of(world)
    sided = rows.filter((pl.col("p_like") >= 0.5) == SAYS_LIKED)
    assert len(sided) > 0.95 * len(rows)  # quality and the user's bias decide the rest
    for rule, reason, trace in rows.select("rule", "reason", "trace").unique().iter_rows():
        assert rule == reason[: len(rule)]
        assert list(named(trace, set(reason))) == reason  # the deciding ones first
    # Pure users of one logic agree about a rule, but where quality, bias or the item's other facet outweigh it.
    ruled = rows.filter(~pl.col("mixed")).group_by("logic", "facet", "setting").agg(pl.len(), said=SAYS_LIKED.mean())
    assert set(ruled.filter(pl.col("setting") != "")["said"].round(6)) <= {0.0, 1.0}


def test_a_setting_turns_what_its_logic_thinks_of_a_facet(world):
    """Where a rule has a setting, its verdict is the opposite of the facet's own."""
    pure = rows_of(world).filter(~pl.col("mixed")).with_columns(said=SAYS_LIKED)
    own = pure.filter(pl.col("setting") == "").group_by("logic", "facet").agg(own=pl.col("said").first(), kinds=pl.col("said").n_unique())
    turned = pure.filter(pl.col("setting") != "").join(own, on=["logic", "facet"])
    assert set(own["kinds"]) == {1}
    assert len(turned) > 1000
    assert (turned["said"] != turned["own"]).all()


def test_logics_contradict_each_other_about_the_same_item(world):
    pure = rows_of(world).filter(~pl.col("mixed")).group_by("item_id", "logic").agg(pl.col("p_like").mean())
    wide = pure.pivot("logic", index="item_id", values="p_like").drop("item_id").drop_nulls().to_numpy()
    assert np.corrcoef(wide.T)[0, 1] < 0.5
    assert ((wide[:, 0] > 0.5) != (wide[:, 1] > 0.5)).mean() > 0.25


def test_users_change_their_minds_about_a_setting_that_comes_again(world):
    again = rows_of(world).filter(pl.col("trace").str.ends_with(" again."))
    assert len(again) > 50
    assert (again["setting"] == "").all()
    assert set_again(np.array([0, 1, 0, 1, 0]), np.array([5, 6, 5, 5, 6])).tolist() == [False, False, True, False, False]


def test_rules_are_stated_with_the_facets_that_they_outweigh():
    tastes = [("heist", True), ("noir", False)]
    assert state_rule(tastes, "satire", turned=True, repeated=False) == "heist is liked with satire, noir is disliked."
    assert state_rule(tastes, "satire", turned=False, repeated=True) == "heist is liked, noir is disliked, satire again."
    assert state_rule(tastes, "satire", turned=False, repeated=False) == "heist is liked, noir is disliked, satire or not."
    assert state_rule(tastes, "", turned=False, repeated=False) == "heist is liked, noir is disliked."


def test_cold_items_have_texts_that_name_their_facets(world):
    rows, texts = rows_of(world), dict(pl.DataFrame(world.items).select("item_id", "text").iter_rows())
    cut = rows["ts"][int(0.85 * len(rows))]
    cold = rows.group_by("item_id").agg(pl.col("ts").min(), pl.col("reason").first()).filter(pl.col("ts") >= cut)
    assert len(cold) >= 30
    assert all(all(word in texts[item] for word in reason) for item, _, reason in cold.iter_rows())


def test_an_item_of_one_facet_has_no_setting():
    with pytest.raises(ConfigError, match="no setting"):
        make_world(RULES.model_copy(update={"facets_per_item": 1}), 0)


@pytest.mark.parametrize("num_facets", [1, 3, 4])
def test_one_setting_is_too_few_to_turn_anything(num_facets):
    asked = RULES.model_copy(update={"facets_per_item": 2, "num_users": 50})
    with pytest.raises(ConfigError, match="none is a setting") as caught:
        make_world(asked.model_copy(update={"num_facets": num_facets}), 0)
    assert caught.value.where == "data.world.num_facets"
    world = make_world(asked.model_copy(update={"num_facets": 5}), 0)
    assert (pl.DataFrame(world.truth)["rule"].list.len() > 1).any()


@pytest.mark.parametrize(("taste", "bound"), [("rules", 9), ("linear", 12)])
def test_the_bound_of_facets_is_the_one_that_is_named(taste, bound):
    asked = RULES.model_copy(update={"taste": taste, "num_users": 50})
    with pytest.raises(ConfigError, match=f"name fewer than {bound}$"):
        make_world(asked.model_copy(update={"facets_per_item": bound}), 0)
    make_world(asked.model_copy(update={"facets_per_item": bound - 1}), 0)
