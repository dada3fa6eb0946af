"""The stage on a small planted set of artefacts: what must be in the report, and what must stop it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from thinkrec.config import PromptSection, parse
from thinkrec.data import schema
from thinkrec.data.ingest import count, with_bucket
from thinkrec.errors import DataError
from thinkrec.evaluate import judge
from thinkrec.evaluate.rows import baseline_rows
from thinkrec.job import Job
from thinkrec.store import Artefact, Store

EVIL = "<script>alert(1)</script>"
NUM_USERS, NUM_ITEMS, PER_USER = 40, 30, 30


@pytest.fixture(scope="module")
def world() -> pl.DataFrame:
    """Interactions whose like-probability is known; the last user is new in test."""
    rng = np.random.default_rng(3)
    num_rows = NUM_USERS * PER_USER
    user = np.repeat(np.arange(NUM_USERS), PER_USER)
    item = np.concatenate([rng.permutation(NUM_ITEMS)[:PER_USER] for _ in range(NUM_USERS)])
    logit = rng.normal(size=NUM_USERS)[user] + rng.normal(size=NUM_ITEMS)[item] + rng.normal(size=num_rows)
    p_true = 1 / (1 + np.exp(-logit))
    place = np.tile(np.arange(PER_USER), NUM_USERS)
    test = (place >= 20) | (user == NUM_USERS - 1)
    return pl.DataFrame(
        {
            "user_id": [f"u{n:03d}" for n in user],
            "item_id": [f"i{n:03d}" for n in item],
            "ts": place.astype(np.int64) * 1000,
            "label": (rng.random(num_rows) < p_true).astype(np.int8),
            "split": np.where(test, "test", "train"),
            "row": rng.permutation(num_rows),
            "p_true": p_true.astype(np.float32),
        }
    ).with_columns(rating=pl.lit(None, pl.Float32))


@pytest.fixture(scope="module")
def inputs(world: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artefact]:
    return artefacts(world, tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def judged(inputs: dict[str, Artefact], tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    return run_stage(inputs, tmp_path_factory.mktemp("judged"))


def run_stage(inputs: dict[str, Artefact], root: Path) -> Artefact:
    config = parse({"evaluate": {"num_bootstrap": 20}, "run": {"dir": "runs/test"}})
    store = Store(str(root))
    with store.create("evaluate", "key1", inputs, {}) as draft:
        judge.run(Job(config, inputs, draft, store, "key1", lambda event, **fields: None))
    return store.find("evaluate", "key1")


def report_of(judged: Artefact) -> dict[str, Any]:
    return json.loads(judged.path("report.json").read_text())


def artefacts(world: pl.DataFrame, root: Path) -> dict[str, Artefact]:
    """Every input of the stage, small but complete."""
    store, made = Store(str(root)), {}
    writers = {"ingest": _ingest, "encode": _encode, "cluster": _cluster, "keywords": _keywords, "traces": _traces}
    writers |= {"base": _log, "global": _log, "projector": _log, "experts": _experts, "score": _score}
    for stage, write in writers.items():
        with store.create(stage, "key0", {}, {}) as draft:
            draft.figures.update(write(world, draft.folder) or {})
        made[stage] = store.find(stage, "key0")
    return made


def test_report_holds_models_baselines_and_honest_figures(inputs, world, judged):
    report, figures = report_of(judged), judged.figures
    test = world.filter(pl.col("split") == "test")
    names = [row["name"] for row in report["metrics"]]
    assert names == ["fusion", "experts", "global", "item_rate", "user_item_rate", "history_rate", "logistic", "mf"]
    scores = pl.read_parquet(inputs["score"].path("scores/fusion.parquet")).join(test, on="row")
    assert figures["fusion"]["auc"] == pytest.approx(roc_auc_score(scores["label"], scores["score"]), abs=1e-12)
    bayes = roc_auc_score(test["label"], test["p_true"])
    assert report["planted"]["bayes_auc"] == pytest.approx(bayes, abs=1e-12)
    assert report["planted"]["recovered_share"]["fusion"] == pytest.approx((figures["fusion"]["auc"] - 0.5) / (bayes - 0.5))
    assert report["explanations"]["consistent_share"] == 0.5
    assert {(row["name"], row["against"]) for row in report["differences"]} >= {("fusion", "global"), ("fusion", "user_item_rate")}


def test_cells_and_routes_share_out_the_test_rows(world, judged):
    report = report_of(judged)
    num_rows = world.filter(pl.col("split") == "test").height
    for part in ("cells", "routes", "clusters"):
        assert sum(group["num_rows"] for group in report[part]) == num_rows
    assert [(cell["user_seen"], cell["num_users"]) for cell in report["cells"]] == [(False, 1), (True, NUM_USERS - 1)]
    one_user = report["cells"][0]["auc"]["fusion"]
    assert one_user["value"] is not None
    assert one_user["low"] is None  # nothing can be resampled


def test_page_is_self_contained_and_escapes_data(judged):
    page = judged.path("report.html").read_text()
    assert EVIL not in page
    assert page.count("&lt;script&gt;") >= 4  # title, text, verdict and prompt of the explanations
    assert "<script" not in page
    assert "http" not in page
    assert "nan" not in page.lower().replace("nano", "")


def test_page_is_well_formed(judged):
    page = judged.path("report.html").read_text().removeprefix("<!doctype html>")
    page = page.replace('<meta charset="utf-8">', "").replace('<meta name="viewport" content="width=device-width, initial-scale=1">', "")
    ElementTree.fromstring(page.replace("<br>", "<br/>"))


def test_metrics_csv_has_one_line_a_metric(judged):
    table = pl.read_csv(judged.path("metrics.csv"))
    assert table.height == sum(len(row["metrics"]) for row in report_of(judged)["metrics"])
    assert table.columns == ["name", "metric", "value", "low", "high", "num_users", "num_dropped"]


def test_same_inputs_same_report(inputs, judged, tmp_path):
    assert run_stage(inputs, tmp_path).path("report.html").read_text() == judged.path("report.html").read_text()


def test_everything_but_ingest_and_scores_is_optional(inputs, tmp_path):
    judged = run_stage({name: inputs[name] for name in ("ingest", "score")}, tmp_path)
    assert [row["name"] for row in report_of(judged)["metrics"]][-1] == "logistic"  # no encoder, no MF row
    page = judged.path("report.html").read_text()
    for missing in ("training logs were", "traces were", "cluster assignment was"):
        assert f"No {missing} handed to this report." in page


def test_logs_are_thinned_and_survive_a_resumed_run(judged):
    curves = report_of(judged)["training"]
    assert list(curves) == ["base", "global", "projector", "expert 0", "expert 1", "expert 10"]
    steps = [point["step"] for point in curves["base"]]
    assert steps == sorted(set(steps))
    assert len(steps) <= 200
    assert steps[-1] == 449


def test_a_label_never_reaches_the_baselines_of_its_own_or_earlier_rows(world, inputs, tmp_path):
    """Flipping the label of each user's last row moves no baseline score of any row, though it moves the labels judged."""
    last = pl.col("ts") == pl.col("ts").max().over("user_id")
    flipped = world.with_columns(label=pl.when(last).then(1 - pl.col("label")).otherwise(pl.col("label")).cast(pl.Int8))
    before = baseline_rows(inputs["ingest"].path(), PromptSection())
    after = baseline_rows(artefacts(flipped, tmp_path)["ingest"].path(), PromptSection())
    for name in ("item_rate", "user_item_rate", "history_rate", "logistic"):
        assert before[name].to_list() == after[name].to_list()
    assert before["label"].to_list() != after["label"].to_list()


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda t: pl.concat([t, t.head(1)]), "distinct"),
        (lambda t: t.with_columns(row=pl.col("row") + 100_000), "match"),
        (lambda t: t.with_columns(score=pl.lit(float("nan"), pl.Float32)), "finite"),
        (lambda t: t.head(5), "match"),
    ],
)
def test_wrong_scores_stop_the_stage(world, tmp_path, spoil, what):
    inputs = artefacts(world, tmp_path / "run")
    file = inputs["score"].path("scores/global.parquet")
    spoil(pl.read_parquet(file)).write_parquet(file)
    with pytest.raises(DataError, match=what):
        run_stage(inputs, tmp_path / "judged")


def _ingest(world: pl.DataFrame, folder: Path) -> None:
    for bucket in range(2):
        target = folder / "interactions" / f"bucket={bucket:03d}"
        target.mkdir(parents=True)
        mine = world.filter(pl.Series([schema.bucket_of(user, 2) for user in world["user_id"]]) == bucket)
        mine.select(schema.INTERACTIONS.names).sort("user_id", "ts", "row").write_parquet(target / "part-0.parquet")
    items = world.select(pl.col("item_id").unique().sort())
    categories = pl.when(pl.int_range(pl.len()) % 3 > 0).then(pl.concat_list(pl.lit("c") + (pl.int_range(pl.len()) % 5).cast(pl.String)))
    items.with_columns(title=pl.lit(EVIL), text=pl.lit(None, pl.String), categories=categories).write_parquet(folder / "items.parquet")
    world.select("row", p_like="p_true").write_parquet(folder / "truth.parquet")
    world.select(pl.col("user_id").unique().sort()).write_parquet(folder / "users.parquet")
    pq.write_table(count(with_bucket(world, 2)), folder / "counts.parquet")
    leak = {"check": "tie_across_a_cut", "severity": "stop", "meaning": "Rows at the time of a cut.", "mend": EVIL, "num_rows": 3}
    leak |= {"examples": [{"item_id": EVIL}]}
    (folder / "audit.json").write_text(json.dumps({"findings": [leak, leak | {"check": "doubled_row", "num_rows": 0}]}))
    split = {"num_rows": 800, "num_users": 39, "num_items": 30, "like_rate": 0.5, "from": "1970-01-01T00:00:00", "to": None}
    (folder / "fingerprint.json").write_text(json.dumps({"num_rows": world.height, "splits": {"train": split, "test": split}}))


def _encode(world: pl.DataFrame, folder: Path) -> None:
    rng = np.random.default_rng(0)
    for name, column in (("users", "user_id"), ("items", "item_id")):
        ids = world.filter(pl.col("split") == "train")[column].unique().sort()
        vectors = pl.Series("vector", rng.normal(size=(len(ids), 5)).astype(np.float32), dtype=pl.Array(pl.Float32, 5))
        pl.DataFrame({"id": ids, "vector": vectors}).write_parquet(folder / f"{name}.parquet")
    (folder / "encoder.json").write_text(json.dumps({"mean": 0.1, "space": "mf_bias"}))


def _cluster(world: pl.DataFrame, folder: Path) -> dict[str, float]:
    (folder / "assignment").mkdir()
    users = world["user_id"].unique().sort()
    codes = pl.Series("cluster", np.arange(len(users)) % 3 - 1, dtype=pl.Int16)
    pl.DataFrame({"user_id": users, "cluster": codes}).write_parquet(folder / "assignment" / "a.parquet")
    return {"cohens_d_max": 0.39}


def _keywords(world: pl.DataFrame, folder: Path) -> None:
    items = world["item_id"].unique().sort()
    words = [["space", "crew", EVIL] if n % 2 else ["love", "city"] for n in range(len(items))]
    pl.DataFrame({"item_id": items, "keywords": words, "source": "engine"}).write_parquet(folder / "keywords.parquet")


def _traces(world: pl.DataFrame, folder: Path) -> dict[str, int]:
    rows = world.filter(pl.col("split") == "train").head(60)
    rows.select(
        "row",
        "user_id",
        attempt=(pl.int_range(pl.len()) % 3 + 1).cast(pl.Int8),
        hinted=pl.lit(False),
        verdict="label",
        text=pl.lit("because"),
        finish_reason=pl.lit("stop"),
        num_tokens=pl.lit(12, pl.Int32),
        teacher=pl.lit("nano"),
        seed=pl.lit(0, pl.Int64),
    ).write_parquet(folder / "traces.parquet")
    return {"num_asked": 90, "num_accepted": 60}


def _log(world: pl.DataFrame, folder: Path, phase: str = "train") -> None:
    lines = [json.dumps({"phase": phase, "step": n, "loss": 1 / (n + 1), "rec": 0.5, "think": 0.2, "lr": 1e-3}) for n in range(450)]
    lines.insert(300, lines[250])  # a resumed run says a step again
    lines.insert(301, '{"phase": "tra')  # and a killed one tears a line
    (folder / "log.jsonl").write_text("\n".join(lines))


def _experts(world: pl.DataFrame, folder: Path) -> None:
    for expert in ("0", "1", "10"):
        (folder / "experts" / expert).mkdir(parents=True)
        _log(world, folder / "experts" / expert, expert)
    spans = [
        {"expert": str(k), "group": k % 2, "start_s": 3.0 * (k // 2), "end_s": 3.0 * (k // 2) + 2.5, "num_steps": 80} for k in range(4)
    ]
    (folder / "timeline.json").write_text(json.dumps(spans))


def _score(world: pl.DataFrame, folder: Path) -> None:
    rng = np.random.default_rng(9)
    test = world.filter(pl.col("split") == "test")
    (folder / "scores").mkdir()
    for name, noise in (("global", 2.0), ("experts", 1.0), ("fusion", 0.5)):
        score = np.log(test["p_true"] / (1 - test["p_true"])).to_numpy() + noise * rng.normal(size=test.height)
        columns = {"score": score.astype(np.float32), "p_like": (1 / (1 + np.exp(-score))).astype(np.float32)}
        route = pl.Series("route", rng.choice(["expert", "mixture", "global"], test.height))
        test.select("row", "user_id", "item_id", "label").with_columns(**{k: pl.Series(k, v) for k, v in columns.items()}).with_columns(
            route
        ).sample(fraction=1.0, shuffle=True, seed=1).write_parquet(folder / "scores" / f"{name}.parquet")
    test.head(4).select(
        "row",
        "user_id",
        "item_id",
        "label",
        title=pl.lit(EVIL),
        score=pl.lit(1.0),
        p_like=pl.lit(0.8, pl.Float32),
        verdict=pl.Series(["Yes", "Yes", "No", EVIL]),
        finish_reason=pl.Series(["stop", "stop", "stop", "length"]),
        text=pl.lit(f"You liked {EVIL}"),
        route=pl.lit("mixture"),
        prompt=pl.lit(f"history {EVIL}"),
    ).write_parquet(folder / "explanations.parquet")
