"""Every metric against an oracle: scikit-learn, or the plain average over all orders of tied rows."""

from __future__ import annotations

from itertools import pairwise, permutations, product

import ir_measures
import numpy as np
import polars as pl
import pytest
from sklearn.metrics import log_loss, ndcg_score, roc_auc_score

from thinkrec.evaluate.metrics.ranking import statistics

EXACT = {"abs": 1e-12, "rel": 0}


def table(users: dict[str, tuple[list[float], list[int]]]) -> pl.DataFrame:
    """{user: (scores, labels)} as rows."""
    rows = [(user, score, label) for user, (scores, labels) in users.items() for score, label in zip(scores, labels, strict=True)]
    return pl.DataFrame(rows, schema={"user_id": pl.String, "score": pl.Float64, "label": pl.Int8}, orient="row")


def random_table(seed: int, num_levels: int, num_users: int = 60) -> pl.DataFrame:
    """Users of 1 to 12 rows; few score levels make many ties, many make none."""
    rng = np.random.default_rng(seed)
    user = np.repeat(np.arange(num_users), rng.integers(1, 13, num_users))
    score = rng.integers(0, num_levels, len(user)) / num_levels
    label = rng.random(len(user)) < rng.random(num_users)[user]
    return pl.DataFrame({"user_id": user.astype(str), "score": score, "label": label.astype(np.int8)}).sample(
        fraction=1, shuffle=True, seed=seed
    )


def values(frame: pl.DataFrame, profile: str = "standard", ks: tuple[int, ...] = (1, 3, 5)) -> dict[str, float]:
    ones = np.ones(frame["user_id"].n_unique())
    return {name: statistic.at(ones) for name, statistic in statistics(frame, ks, profile).items()}


def by_user(frame: pl.DataFrame) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(rows["score"].to_numpy(), rows["label"].to_numpy()) for _, rows in frame.group_by("user_id")]


@pytest.mark.parametrize(("seed", "num_levels"), product(range(3), (1, 2, 4, 10**9)))
def test_areas_equal_scikit_learn(seed, num_levels):
    frame = random_table(seed, num_levels)
    mixed = [(score, label) for score, label in by_user(frame) if 0 < label.sum() < len(label)]
    areas = np.array([roc_auc_score(label, score) for score, label in mixed])
    rows = np.array([len(label) for _, label in mixed])
    likes = np.array([label.sum() for _, label in mixed])
    found = values(frame)
    assert found["auc"] == pytest.approx(roc_auc_score(frame["label"], frame["score"]), **EXACT)
    assert found["uauc"] == pytest.approx(areas.mean(), **EXACT)
    assert found["gauc_rows"] == pytest.approx((areas * rows).sum() / rows.sum(), **EXACT)
    assert found["gauc_pos"] == pytest.approx((areas * likes).sum() / likes.sum(), **EXACT)


@pytest.mark.parametrize(("num_levels", "k"), product((1, 3, 10**9), (1, 3, 5)))
def test_ndcg_equals_scikit_learn_with_ties(num_levels, k):
    frame = random_table(k, num_levels)
    users = [(score, label) for score, label in by_user(frame) if len(label) >= 2]
    scored = [ndcg_score([label], [score], k=k) for score, label in users]
    liked = [value for value, (_, label) in zip(scored, users, strict=True) if label.any()]
    assert values(frame)[f"ndcg@{k}"] == pytest.approx(np.mean(liked), **EXACT)
    assert values(frame, "reference")[f"ndcg@{k}"] == pytest.approx(np.mean(scored), **EXACT)


def average_precision(labels: list[int], k: int) -> float:
    return sum(sum(labels[: n + 1]) / (n + 1) for n in range(min(k, len(labels))) if labels[n])


@pytest.mark.parametrize("scores", [[1, 1, 1, 1, 1], [2, 2, 1, 1, 1], [3, 2, 2, 2, 1], [5, 4, 3, 2, 1]])
def test_map_and_hit_rate_are_the_average_over_all_orders_of_ties(scores):
    """Every pattern of five labels is one user."""
    orders = [order for order in permutations(range(5)) if all(scores[a] >= scores[b] for a, b in pairwise(order))]
    patterns = [labels for labels in product((0, 1), repeat=5) if any(labels)]
    frame = table({str(labels): (scores, list(labels)) for labels in patterns})
    standard, reference = statistics(frame, (1, 2, 3, 9)), statistics(frame, (1, 2, 3, 9), "reference")
    for n, k in product(range(len(patterns)), (1, 2, 3, 9)):
        ranked = [[patterns[n][row] for row in order] for order in orders]
        expected, likes = np.mean([average_precision(one, k) for one in ranked]), sum(patterns[n])
        assert standard[f"map@{k}"].values[n] == pytest.approx(expected / min(k, likes), **EXACT)
        assert reference[f"map@{k}"].values[n] == pytest.approx(expected / likes, **EXACT)
        assert standard[f"hr@{k}"].values[n] == pytest.approx(np.mean([any(one[:k]) for one in ranked]), **EXACT)


def test_who_is_used_and_who_is_dropped():
    frame = table({"both": ([2, 1], [1, 0]), "liked": ([1, 2], [1, 1]), "disliked": ([1, 2], [0, 0]), "single": ([1], [1])})
    standard, reference = statistics(frame), statistics(frame, profile="reference")
    counts = {name: (statistic.num_users, statistic.num_dropped) for name, statistic in standard.items()}
    assert counts["auc"] == (4, 0)
    assert counts["uauc"] == counts["gauc_rows"] == counts["gauc_pos"] == (1, 3)
    assert counts["ndcg@5"] == counts["map@5"] == counts["hr@5"] == (2, 2)
    assert reference["ndcg@5"].num_users == reference["map@5"].num_users == 3  # one-class users count, the single row does not
    assert values(frame, "reference")["ndcg@5"] == pytest.approx(2 / 3, **EXACT)


def test_order_of_rows_never_matters():
    frame = random_table(5, 3)
    assert values(frame.sample(fraction=1, shuffle=True, seed=9)) == pytest.approx(values(frame), **EXACT)


def test_constant_scores_say_nothing():
    frame = table({"a": ([1, 1, 1], [1, 0, 0]), "b": ([1, 1], [0, 1])})
    assert values(frame)["auc"] == values(frame)["uauc"] == 0.5


def test_one_class_is_not_defined():
    found = values(table({"a": ([1, 2], [1, 1]), "b": ([3], [1])}))
    assert np.isnan(found["auc"])
    assert np.isnan(found["uauc"])


def test_float32_scores_and_boolean_like_labels_are_the_same():
    frame = random_table(1, 7)
    assert values(frame.with_columns(pl.col("score").cast(pl.Float32))) == pytest.approx(values(frame), **EXACT)


def test_drawing_a_user_twice_is_the_same_as_having_its_rows_twice():
    """What the bootstrap rests on."""
    frame = random_table(2, 5, num_users=12)
    times = np.array([2, 0, 1, 3, 1, 0, 2, 1, 1, 0, 1, 4], np.float64)
    users = sorted(frame["user_id"].unique())
    copies = [
        frame.filter(pl.col("user_id") == user).with_columns(user_id=pl.lit(f"{user}/{n}"))
        for user, number in zip(users, times, strict=True)
        for n in range(int(number))
    ]
    drawn = {name: statistic.at(times) for name, statistic in statistics(frame).items()}
    repeated = values(pl.concat(copies), ks=(5,))
    first_order = abs(drawn.pop("auc") - repeated.pop("auc"))
    assert drawn == pytest.approx(repeated, **EXACT)
    assert 0 < first_order < 0.002  # pooled AUC is linear in the draw up to 1 / users


def test_resampled_auc_moves_like_that_of_repeated_rows():
    """The first order is nearly all there is: over many draws its error is a small part of the spread."""
    frame = random_table(4, 50, num_users=200).sort("user_id")
    users, user = np.unique(frame["user_id"].to_numpy(), return_inverse=True)
    rng, statistic = np.random.default_rng(0), statistics(frame)["auc"]
    drawn, exact = np.empty(100), np.empty(100)
    for n in range(100):
        times = np.bincount(rng.integers(0, len(users), len(users)), minlength=len(users))
        drawn[n] = statistic.at(times.astype(float))
        exact[n] = roc_auc_score(frame["label"], frame["score"], sample_weight=times[user])
    assert np.std(drawn - exact) < 0.1 * np.std(exact)
    assert np.std(drawn) == pytest.approx(np.std(exact), rel=0.05)
    assert abs(np.mean(drawn - exact)) < 0.1 * np.std(exact)


@pytest.mark.parametrize("seed", range(3))
def test_top_k_equals_ir_measures(seed):
    """trec_eval breaks ties by name, so these scores have none; its AP divides by all positives, as our reference profile does."""
    frame = random_table(seed, 10**9).with_columns(score=pl.col("score").rank("ordinal").cast(pl.Float64))
    rows = [frame["user_id"].to_list(), [f"d{n}" for n in range(frame.height)]]
    qrels = [ir_measures.Qrel(*row) for row in zip(*rows, frame["label"].to_list(), strict=True)]
    run = [ir_measures.ScoredDoc(*row) for row in zip(*rows, frame["score"].to_list(), strict=True)]
    names = {"nDCG": ("standard", "ndcg"), "AP": ("reference", "map"), "Success": ("standard", "hr")}
    users = frame["user_id"].unique().sort().to_list()
    compared = 0
    for k, (theirs, (profile, ours)) in product((1, 3, 5), names.items()):
        found = statistics(frame, (k,), profile)[f"{ours}@{k}"]
        for measured in ir_measures.iter_calc([ir_measures.parse_measure(f"{theirs}@{k}")], qrels, run):
            place = users.index(measured.query_id)
            if found.weights[place] and frame.filter(pl.col("user_id") == measured.query_id)["label"].sum():
                assert found.values[place] == pytest.approx(measured.value, **EXACT)
                compared += 1
    assert compared > 9 * 30


@pytest.mark.parametrize("p_like", [[0.9, 0.2, 0.6, 0.5], [1.0, 0.0, 0.3, 1.0], [0.5] * 4, [0.0, 1.0, 1.0, 1e-300]])
def test_log_loss_equals_scikit_learn(p_like):
    frame = table({"a": (p_like[:3], [1, 0, 1]), "b": (p_like[3:], [0])})
    found = statistics(frame.with_columns(p_like="score"))["log_loss"]
    assert found.at(np.ones(2)) == pytest.approx(log_loss(frame["label"], p_like, labels=[0, 1]), **EXACT)
    assert "log_loss" not in statistics(frame)


DEGENERATE = {
    "one row": {"a": ([0.3], [1])},
    "one user": {"a": ([0.3, 0.1, 0.1, 0.7], [1, 0, 1, 0])},
    "one class": {"a": ([0.3, 0.1], [1, 1]), "b": ([0.5], [1])},
    "one class a user": {"a": ([0.3, 0.1], [1, 1]), "b": ([0.5], [0])},
    "constant scores": {"a": ([0.5, 0.5], [1, 0]), "b": ([0.5, 0.5, 0.5], [0, 0, 1])},
    "signed zeros": {"a": ([-0.0, 0.0, 1.0], [1, 0, 1])},
    "extremes": {"a": ([-1e308, 1e308, 5e-324, -5e-324], [0, 1, 1, 0])},
    "neighbours": {"a": ([0.1, np.nextafter(0.1, 1), 0.1], [0, 1, 1])},
}


@pytest.mark.parametrize("case", DEGENERATE)
def test_degenerate_files_equal_scikit_learn(case):
    frame = table(DEGENERATE[case])
    found = values(frame)
    mixed = [(score, label) for score, label in by_user(frame) if 0 < label.sum() < len(label)]
    pooled = roc_auc_score(frame["label"], frame["score"]) if frame["label"].n_unique() == 2 else np.nan
    plain = np.mean([roc_auc_score(label, score) for score, label in mixed]) if mixed else np.nan
    gains = [ndcg_score([label], [score], k=3) for score, label in by_user(frame) if len(label) > 1 and label.any()]
    assert found["auc"] == pytest.approx(pooled, **EXACT, nan_ok=True)
    assert found["uauc"] == pytest.approx(plain, **EXACT, nan_ok=True)
    assert found["ndcg@3"] == pytest.approx(np.mean(gains) if gains else np.nan, **EXACT, nan_ok=True)
