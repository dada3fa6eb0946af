"""The stage on a small planted set of artefacts: what must be in the report, and what must stop it."""

from __future__ import annotations

import shutil
from html import escape
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest
from planted import EVIL, MODEL_WEIGHT, NUM_USERS, artefacts, report_of, run_stage
from sklearn.metrics import roc_auc_score

from thinkrec.artefacts.buckets import bucket_file
from thinkrec.artefacts.ingest import TEST, TRAIN
from thinkrec.artefacts.scores import read_scores
from thinkrec.config.model import PromptSection
from thinkrec.data.counts import Log
from thinkrec.data.interactions import Interactions
from thinkrec.errors import DataError
from thinkrec.evaluate.run_report import baselines, scored_rows
from thinkrec.evaluate.run_report.scored_rows import baseline_rows


def test_report_holds_models_baselines_and_honest_figures(inputs, world, judged):
    report, figures = report_of(judged), judged.figures
    test = world.filter(pl.col("split") == "test")
    names = [row["name"] for row in report["metrics"]]
    served = ["prior+fusion", "prior", "model", "prior+experts", "prior+global"]
    assert names == [*served, "item_rate", "user_item_rate", "history_rate", "logistic", "sasrec"]
    assert [row["against"] for row in report["differences"]][:2] == ["prior", "model"]
    scores = read_scores(inputs["score"].path(), "fusion").join(test, on="row")
    for name, column in (("prior+fusion", "score"), ("prior", "prior"), ("model", "model")):
        assert figures[name]["auc"] == pytest.approx(roc_auc_score(scores["label"], scores[column]), abs=1e-12)
    assert report["prior"] == {"model_weight": MODEL_WEIGHT, "num_valid_rows": 0}
    encoded = pl.read_parquet(inputs["encode"].path("scores.parquet")).join(test, on="row")
    assert figures["sasrec"]["auc"] == pytest.approx(roc_auc_score(encoded["label"], encoded["score"]), abs=1e-12)
    counted = pl.read_parquet(inputs["prior"].path("offsets/bucket=000/part-0.parquet")).join(test, on="row")
    assert figures["prior"]["auc"] == pytest.approx(roc_auc_score(counted["label"], counted["offset"]), abs=1e-12)
    bayes = roc_auc_score(test["label"], test["p_true"])
    assert report["planted"]["bayes_auc"] == pytest.approx(bayes, abs=1e-12)
    assert report["planted"]["linear_auc"] == pytest.approx(roc_auc_score(test["label"], test["p_true"].round(1)), abs=1e-12)
    area, counted_area = figures["prior+fusion"]["auc"], figures["prior"]["auc"]
    assert report["planted"]["recovered_share"]["prior+fusion"] == pytest.approx((area - 0.5) / (bayes - 0.5))
    assert report["planted"]["share_beyond_prior"] == pytest.approx((area - counted_area) / (bayes - counted_area))
    assert report["explanations"]["consistent_share"] == pytest.approx(4 / 6)
    rules = report["explanations"]["rules"]
    assert (rules["num_rows"], rules["named_share"], rules["chance_share"], rules["item_share"]) == (6, 0, 0.5, None)
    assert {(row["name"], row["against"]) for row in report["differences"]} >= {
        ("prior+fusion", against) for against in ("prior+global", "prior", "user_item_rate", "sasrec")
    }


def test_cells_and_routes_share_out_the_test_rows(world, judged):
    report = report_of(judged)
    num_rows = world.filter(pl.col("split") == "test").height
    for part in ("cells", "routes", "clusters"):
        assert sum(group["num_rows"] for group in report[part]) == num_rows
    assert [(cell["user_seen"], cell["num_users"]) for cell in report["cells"]] == [(False, 1), (True, NUM_USERS - 1)]
    for side in ("seen", "route", "history", "popularity"):
        assert sum(row["num_rows"] for row in report["added"] if row["by"] == side) == num_rows
    [new] = [row for row in report["added"] if row["part"].startswith("user new")]
    area = report["cells"][0]["auc"]
    assert new["auc"]["value"] == pytest.approx(area["prior+fusion"]["value"] - area["prior"]["value"])
    one_user = report["cells"][0]["auc"]["prior+fusion"]
    assert one_user["value"] is not None
    assert one_user["low"] is None  # nothing can be resampled


def test_page_is_self_contained_and_escapes_data(judged):
    page = judged.path("report.html").read_text()
    assert EVIL not in page
    assert page.count("&lt;script&gt;") >= 4  # title, text, verdict and prompt of the explanations
    assert "<script" not in page
    assert "://" not in page.replace("http://127.0.0.1:8265", "")  # a setting, and no link
    assert "nan" not in page.lower().replace("nano", "")


def test_text_metrics_and_what_they_lack_are_reported(judged):
    found = report_of(judged)["explanations"]
    assert found["overlap"]["teacher"]["num_pairs"] == 4  # of the rows that a teacher has answered
    assert found["overlap"]["planted"]["num_pairs"] == 6
    assert found["claims"]["num_claims"] == 0
    assert "Overlap with 6 planted references" in judged.path("report.html").read_text()
    assert "Overlap with 4 teacher references" in judged.path("report.html").read_text()
    assert "BLEURT is left out: evaluate.bleurt_path is empty" in judged.path("report.html").read_text()


def test_page_is_well_formed(judged):
    page = judged.path("report.html").read_text().removeprefix("<!doctype html>")
    ElementTree.fromstring(page.replace("<br>", "<br/>"))


def test_metrics_csv_has_one_line_a_metric(judged):
    table = pl.read_csv(judged.path("metrics.csv"))
    assert table.height == sum(len(row["metrics"]) for row in report_of(judged)["metrics"])
    assert table.columns == ["name", "metric", "value", "low", "high", "num_users", "num_dropped"]


def test_same_inputs_same_report(inputs, judged, tmp_path):
    assert run_stage(inputs, tmp_path).path("report.html").read_text() == judged.path("report.html").read_text()


def test_everything_but_ingest_and_scores_is_optional(inputs, tmp_path):
    judged = run_stage({name: inputs[name] for name in ("ingest", "score")}, tmp_path)
    assert [row["name"] for row in report_of(judged)["metrics"]][-1] == "logistic"  # no encoder, no row of its own
    assert (report_of(judged)["best"], report_of(judged)["added"]) == ("fusion", [])  # no prior: no sum
    page = judged.path("report.html").read_text()
    for missing in ("training logs were", "traces were", "cluster assignment was"):
        assert f"No {missing} handed to this report." in page


def test_a_run_without_experts_is_judged_by_its_global_adapter(world, tmp_path):
    inputs = artefacts(world, tmp_path / "run")
    for name in ("fusion", "experts"):
        shutil.rmtree(inputs["score"].path(f"scores/{name}"))
    judged = run_stage({name: inputs[name] for name in ("ingest", "encode", "cluster", "score")}, tmp_path / "judged")
    report = report_of(judged)
    assert [row["name"] for row in report["metrics"] if row["kind"] == "model"] == [report["best"]] == ["global"]
    assert "Expert mixture" not in judged.path("report.html").read_text()


def test_logs_are_thinned_and_survive_a_resumed_run(judged):
    curves = report_of(judged)["training"]
    assert list(curves) == ["extractor", "base", "teacher", "global", "projector", "expert 0", "expert 1", "expert 10"]
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


def test_baselines_counted_bucket_by_bucket_are_those_of_the_whole_log(inputs, monkeypatch):
    ingest, length = inputs["ingest"].path(), PromptSection().history_length
    data, found = Interactions.load(ingest), baseline_rows(ingest, PromptSection())
    train, test = data.split == TRAIN, data.split == TEST
    log = Log(data.user, data.item, data.label, train, np.ones(len(data), bool), scored_rows._categories(ingest))
    features = baselines.features(log, length)
    whole = baselines.counted(log, length) | {"logistic": baselines.logistic(features[train], data.label[train], features)}
    assert found["row"].to_list() == data.row[test].tolist()
    for name, scores in whole.items():
        assert found[name].to_numpy() == pytest.approx(scores[test], abs=1e-6 if name == "logistic" else 1e-12)
    monkeypatch.setattr(scored_rows, "MAX_FITTED", 200)  # the regression alone learns from fewer rows then
    fewer = baseline_rows(ingest, PromptSection())
    assert fewer.drop("logistic").equals(found.drop("logistic"))
    assert 0.5 < np.corrcoef(fewer["logistic"], found["logistic"])[0, 1] < 0.99


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda t: pl.concat([t, t.head(1)]), "distinct"),
        (lambda t: t.with_columns(row=pl.col("row") + 100_000), "match"),
        (lambda t: t.with_columns(row=pl.col("row").reverse()), "match"),
        (lambda t: t.with_columns(label=1 - pl.col("label")), "; 0 match"),
        (lambda t: t.with_columns(score=pl.lit(float("nan"), pl.Float32)), "finite"),
        (lambda t: t.head(5), "match"),
    ],
)
def test_wrong_scores_stop_the_stage(world, tmp_path, spoil, what):
    inputs = artefacts(world, tmp_path / "run")
    file = inputs["score"].path(bucket_file("scores/global", 0))
    spoil(pl.read_parquet(file)).write_parquet(file)
    with pytest.raises(DataError, match=what):
        run_stage(inputs, tmp_path / "judged")


@pytest.mark.parametrize("file", ["encode/scores.parquet", "ingest/truth.parquet"])
@pytest.mark.parametrize("spoil", [lambda t: t.head(t.height - 400), lambda t: pl.concat([t, t.tail(1)])])
def test_scores_beside_the_models_are_of_every_row_and_of_each_once(world, tmp_path, file, spoil):
    inputs = artefacts(world, tmp_path / "run")
    stage, name = file.split("/")
    path = inputs[stage].path(name)
    test = pl.DataFrame({"row": world.filter(split="test")["row"]})
    table = pl.read_parquet(path)
    spoil(table.join(test, on="row", how="semi") if stage == "ingest" else table).write_parquet(path)
    with pytest.raises(DataError, match="score every test row once"):
        run_stage({name: inputs[name] for name in ("ingest", "encode", "score")}, tmp_path / "judged")


def test_the_report_tells_what_each_teacher_was_asked_and_why_answers_fell(world, judged, tmp_path):
    found = report_of(judged)["traces"]
    assert (found["num_asked"], found["num_attempts"], found["num_traces"], found["num_tokens"]) == (90, 108, 60, 1301)
    page = judged.path("report.html").read_text()
    for teacher in (f"nano<small>refused: 41 wrong verdict, 7 {escape(EVIL)}</small>", f"{escape(EVIL)}<small>none refused</small>"):
        assert teacher in page
    nothing = artefacts(world, tmp_path / "run")
    table = nothing["traces"].path("traces.parquet")
    pl.read_parquet(table).head(0).write_parquet(table)
    told = report_of(run_stage(nothing, tmp_path / "judged"))["traces"]  # all refused: that must not look like never asked
    assert (told["num_traces"], told["accepted_share"], told["num_asked"]) == (0, 0.0, 90)
