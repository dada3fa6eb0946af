"""Metrics of tables in memory: any kind of table gives the figures of a file, and what is no label is refused."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from thinkrec.cli.main import app
from thinkrec.errors import ConfigError, DataError
from thinkrec.metrics import evaluate

NAMES = {"user": "who", "label": "liked", "score": "ours"}


@pytest.fixture(scope="module")
def frame() -> pl.DataFrame:
    rng = np.random.default_rng(1)
    liked = rng.integers(0, 2, 400)
    columns = {"who": rng.integers(0, 20, 400), "liked": liked, "ours": rng.random(400), "theirs": liked + rng.normal(size=400)}
    return pl.DataFrame(columns)


@pytest.fixture(scope="module")
def expected(frame):
    return evaluate(frame, **NAMES, against="theirs", num_bootstrap=50)


KINDS = {
    "lazy": pl.DataFrame.lazy,
    "pandas": pl.DataFrame.to_pandas,
    "pandas with an index": lambda frame: frame.to_pandas().set_index(np.arange(400) * 7),
    "arrow": pl.DataFrame.to_arrow,
    "columns": lambda frame: {name: list(values) for name, values in frame.to_dict().items()},
    "true and false": lambda frame: frame.with_columns(pl.col("liked") == 1),
    "categories": lambda frame: frame.with_columns(pl.col("who").cast(pl.String).cast(pl.Categorical)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_table_gives_the_same(frame, expected, kind):
    assert evaluate(KINDS[kind](frame), **NAMES, against="theirs", num_bootstrap=50).metrics == expected.metrics


def test_figures_are_those_of_the_command_and_of_scikit_learn(frame, expected, tmp_path):
    file = tmp_path / "scores.parquet"
    frame.rename({"who": "user_id", "liked": "label", "ours": "score"}).write_parquet(file)
    done = CliRunner().invoke(app, ["evaluate", str(file), "--num-bootstrap", "50", "--json"])
    told = json.loads(done.stdout)["metrics"][0]["metrics"]
    assert {name: estimate.value for name, estimate in expected.metrics.items()} == pytest.approx(
        {name: cell["value"] for name, cell in told.items()}
    )
    assert (expected["uauc"].low, expected["uauc"].high) == pytest.approx((told["uauc"]["low"], told["uauc"]["high"]))
    assert expected["auc"].value == pytest.approx(roc_auc_score(frame["liked"], frame["ours"]))
    assert "log_loss" in expected.metrics


def test_the_difference_is_that_of_the_two_columns(frame, expected):
    other = evaluate(frame, **NAMES | {"score": "theirs"}, num_bootstrap=50)
    assert expected.differences["auc"].value == pytest.approx(expected["auc"].value - other["auc"].value)
    assert expected.differences["auc"].high < 0
    assert not other.differences


def test_it_prints_what_the_command_prints(expected, capsys):
    expected.show()
    assert "plain mean of AUC over users with both classes" in capsys.readouterr().out


def test_one_class_has_no_area(frame):
    assert evaluate(frame.with_columns(liked=1), **NAMES, num_bootstrap=2)["auc"].value is None


SLIPS = {
    "labels of three": (lambda frame: frame.with_columns(pl.col("liked") * 3), {}, "column 'liked' holds 3"),
    "ratings": (lambda frame: frame.with_columns(liked=4.5), {}, "column 'liked' holds 4.5; 400 such rows"),
    "words": (lambda frame: frame.with_columns(liked=pl.lit("like")), {}, "holds 'like'"),
    "no score": (lambda frame: frame.to_pandas().assign(ours=np.nan), {}, "column 'ours' holds None"),
    "an endless score": (lambda frame: frame.with_columns(ours=float("inf")), {}, "column 'ours' holds inf"),
    "no user": (lambda frame: frame.with_columns(who=None), {}, "column 'who' holds None"),
    "users as decimals": (lambda frame: frame.to_pandas().assign(who=1.5), {}, "holds Float64"),
    "mixed users": (lambda frame: frame.to_pandas().assign(who=[1, "a"] * 200), {}, "cannot be read from this DataFrame"),
    "the usual name": (lambda frame: frame, {"user": "user_id"}, "no column 'user_id'; there are who, liked, ours, theirs"),
    "the usual name in pandas": (pl.DataFrame.to_pandas, {"user": "user_id"}, "no column 'user_id'; there are who, liked, ours, theirs"),
    "the usual name in Arrow": (pl.DataFrame.to_arrow, {"user": "user_id"}, "no column 'user_id'; there are who, liked, ours, theirs"),
    "the usual name in a query": (pl.DataFrame.lazy, {"user": "user_id"}, "no column 'user_id'; there are who, liked, ours, theirs"),
    "two columns of a name": (lambda frame: pd.concat([frame.to_pandas()] * 2, axis=1), {}, "Duplicate column names"),
    "label as score": (lambda frame: frame, {"score": "liked"}, "one column cannot be two things"),
    "compared with itself": (lambda frame: frame, {"against": "ours"}, "one column cannot be two things"),
    "no row": (lambda frame: frame.clear(), {}, r"the columns have \[0, 0, 0\] rows"),
    "unlike columns": (lambda frame: {"who": ["a"], "liked": [1, 0], "ours": [0.1, 0.2]}, {}, r"the columns have \[1, 2, 2\] rows"),
    "a path": (lambda frame: "scores.parquet", {}, "cannot be read from this str"),
    "no probabilities": (lambda frame: frame, {"score": "theirs", "score_is": "probability"}, "are not probabilities"),
}


@pytest.mark.parametrize("name", SLIPS)
def test_a_slip_is_named(frame, name):
    change, arguments, message = SLIPS[name]
    with pytest.raises(DataError, match=message):
        evaluate(change(frame), **NAMES | arguments, num_bootstrap=2)


@pytest.mark.parametrize("setting", [{"ks": [0]}, {"ks": []}, {"num_bootstrap": 0}, {"profile": "paper"}, {"score_is": "odds"}])
def test_a_setting_out_of_range_is_named(frame, setting):
    with pytest.raises(ConfigError, match=r"must be 1 or more|is none of"):
        evaluate(frame, **NAMES | setting)
