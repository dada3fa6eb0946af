"""One name, many numbers: every public reading of UAUC against a plain loop that follows its code, all of them on one score file."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from thinkrec.evaluate.metrics.definitions import definitions, uauc_variants
from thinkrec.evaluate.metrics.ranking import user_statistics, user_table

ONE_CLASS_USERS = 6


def file_of(with_one_class: bool = True) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    users = []
    for n in range(30):
        rows = int(rng.integers(4, 40))
        label = (rng.random(rows) < rng.uniform(0.2, 0.8)).astype(np.int8)
        label[:2] = (0, 1)
        score = rng.normal(size=rows) + label * 2 * rows / 40
        if n < ONE_CLASS_USERS and with_one_class:
            label[:] = n % 2
        if n == 29:
            score[:] = 0.5
        users.append(pl.DataFrame({"user_id": f"u{n}", "score": score, "label": label}))
    return pl.concat(users)


def looped(frame: pl.DataFrame) -> dict[str, float]:
    """What each code base does, user by user."""
    area, rows, likes, flat = [], [], [], []
    for _, user in frame.group_by("user_id"):
        label, score = user["label"].to_numpy(), user["score"].to_numpy()
        both = 0 < label.sum() < len(label)
        area.append(roc_auc_score(label, score) if both else None)
        rows.append(len(label))
        likes.append(label.sum())
        flat.append(len(set(score)) == 1)
    both = [n for n in range(len(area)) if area[n] is not None]

    def mean(chosen: list[int], weight: list[float], one_class: float = np.nan) -> float:
        return np.average([one_class if area[n] is None else area[n] for n in chosen], weights=[weight[n] for n in chosen])

    everyone, ones = list(range(len(area))), [1.0] * len(area)
    return {
        "uauc": mean(both, ones),
        "gauc_rows": mean(both, rows),
        "gauc_pos": mean(both, likes),
        "gauc_rows_zero": mean(everyone, rows, 0.0),
        "uauc_strict": None if len(both) < len(area) else mean(everyone, ones),
        "uauc_varied": mean([n for n in both if not flat[n]], ones),
        "uauc_catalogue": None,
        "uauc_half": mean(everyone, ones, 0.5),
    }


@pytest.mark.parametrize("with_one_class", [True, False])
def test_every_reading_equals_its_loop(with_one_class):
    frame = file_of(with_one_class)
    found = {row["name"]: row["value"] for row in uauc_variants(user_table(frame, ()))}
    expected = looped(frame)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] is None if value is None else found[name] == pytest.approx(value, abs=1e-12), name


def test_the_same_scores_have_many_uaucs():
    rows = uauc_variants(user_table(file_of(), ()))
    values = [row["value"] for row in rows if row["value"] is not None]
    assert len(values) == 6
    assert len(np.unique(np.round(values, 3))) == 6
    assert max(values) - min(values) > 0.05
    used = {row["name"]: (row["num_users"], row["num_dropped"]) for row in rows}
    assert used["uauc"] == (30 - ONE_CLASS_USERS, ONE_CLASS_USERS)
    assert used["gauc_rows_zero"] == used["uauc_half"] == (30, 0)
    assert used["uauc_varied"] == (29 - ONE_CLASS_USERS, ONE_CLASS_USERS + 1)


def test_users_of_one_class_are_all_that_parts_some_of_them():
    """The control: with both classes everywhere the readings that differ in one-class users alone agree."""
    found = {row["name"]: row["value"] for row in uauc_variants(user_table(file_of(with_one_class=False), ()))}
    assert found["uauc"] == found["uauc_strict"] == found["uauc_half"]
    assert found["gauc_rows"] == found["gauc_rows_zero"]


@pytest.mark.parametrize("profile", ["standard", "reference"])
def test_every_metric_has_a_definition(profile):
    users = user_table(file_of().with_columns(p_like=pl.lit(0.5)), (2, 7))
    assert list(definitions((2, 7), profile)) == list(user_statistics(users, (2, 7), profile))
