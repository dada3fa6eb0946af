"""Trials side by side: equal to measuring them directly, paired only on the same rows, and every claim with its control."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from planted import EVIL, report_of
from trial_entries import SETTINGS, Trials

from thinkrec.artefacts.buckets import bucket_file
from thinkrec.artefacts.scores import read_scores
from thinkrec.errors import DataError
from thinkrec.evaluate.compare import COMPARISON_FILES, compare, write_comparison
from thinkrec.evaluate.metrics.table import difference_rows, measure, metric_rows
from thinkrec.evaluate.report.comparison import comparison_page, conclusions
from thinkrec.evaluate.report.table import text_table
from thinkrec.store.artefacts import Artefact

SHARE = {name: {"train": {"trace_share": share}} for name, share in (("a", 0.0), ("b", 0.2), ("c", 0.5))}


@pytest.fixture
def trial(inputs: dict[str, Artefact], judged: Artefact, tmp_path: Path) -> Trials:
    return Trials(inputs, judged, tmp_path)


def scores(entry, variant: str = "fusion") -> pl.DataFrame:
    return read_scores(entry.artefacts["score"].path(), variant).sort("row")


def test_it_equals_measuring_the_scores_directly(trial):
    a, b = trial("a"), trial("b", noise=3.0)
    found = compare([a, b], SETTINGS, {})
    wide = scores(a).select("user_id", "label", a="score").with_columns(b=scores(b)["score"])
    measured = measure(wide, ["a", "b"], 50, a.config.run.seed)
    assert [{key: row[key] for key in ("name", "metrics")} for row in found["metrics"]] == metric_rows(measured)
    assert found["differences"] == difference_rows(measured, [("b", "a")])
    assert (found["num_rows"], found["unpaired"]) == (wide.height, {})


def test_it_agrees_with_the_report_of_the_run_itself(trial, judged):
    [row] = compare([trial("a")], SETTINGS, {})["metrics"]
    own = next(row for row in report_of(judged)["metrics"] if row["name"] == "prior+fusion")
    for metric in ("auc", "uauc", "ndcg@5", "map@5"):
        assert row["metrics"][metric]["value"] == own["metrics"][metric]["value"]


def test_a_trial_may_be_called_like_a_column(trial):
    plain = compare([trial("a"), trial("b", noise=3.0)], SETTINGS, {})
    odd = compare([trial("label", reference="label"), trial("row", noise=3.0, reference="label")], SETTINGS, {})
    assert [row["metrics"] for row in odd["differences"]] == [row["metrics"] for row in plain["differences"]]


def test_noise_is_worse_and_a_twin_is_even(trial):
    found = compare([trial("a"), trial("noisy", noise=4.0), trial("twin")], SETTINGS, {})
    noisy, twin = (row["metrics"]["auc"] for row in found["differences"])
    assert noisy["high"] < 0
    assert noisy["p"] < 0.05
    assert (twin["value"], twin["low"], twin["high"], twin["p"]) == (0, 0, 0, 1)
    said = conclusions(found)
    assert said[0].startswith("Worse than a on AUC: noisy")
    assert said[1].startswith("No clear difference on AUC: twin")


@pytest.mark.parametrize("rows", [pl.col("row") % 2 == 0, pl.col("user_id") != "u003"], ids=["half of the rows", "one user less"])
def test_other_test_rows_are_shown_and_never_paired(trial, rows):
    found = compare([trial("a"), trial("other", rows=rows)], SETTINGS, {})
    assert found["differences"] == []
    assert found["unpaired"] == {"other": "other test rows"}
    assert [row["name"] for row in found["metrics"]] == ["a", "other"]
    assert found["metrics"][1]["metrics"]["auc"]["value"] is not None
    assert "no difference is claimed" in comparison_page(found)
    assert conclusions(found) == ["other is not held against a: other test rows."]


def test_one_changed_label_is_enough_not_to_pair(trial):
    a, b = trial("a"), trial("b")
    for file in b.artefacts["score"].path("scores").rglob("*.parquet"):
        first = pl.int_range(pl.len()) == 0
        pl.read_parquet(file).with_columns(label=pl.when(first).then(1 - pl.col("label")).otherwise("label").cast(pl.Int8)).write_parquet(
            file
        )
    assert compare([a, b], SETTINGS, {})["unpaired"] == {"b": "other test rows"}


def test_without_its_reference_a_trial_claims_nothing(trial):
    found = compare([trial("b")], SETTINGS, {"a": "the group died"})
    assert found["unpaired"] == {"b": "a failed"}
    assert "the group died" in comparison_page(found)


def test_variants_of_the_same_scores_are_compared(trial):
    hard, whole = trial("hard", variant="experts"), trial("a")
    found = compare([whole, hard], SETTINGS, {})
    assert [row["variant"] for row in found["trials"]] == ["fusion", "experts"]
    direct = measure(scores(hard, "experts").select("user_id", "label", x="score"), ["x"], 50, 42)
    assert found["metrics"][1]["metrics"] == metric_rows(direct)[0]["metrics"]
    with pytest.raises(DataError, match="trial 'a' has no scores of variant 'direct'; there are experts, fusion, global"):
        compare([trial("a", variant="direct")], SETTINGS, {})


def test_a_score_that_is_no_number_is_refused_by_trial(trial):
    bad = trial("bad")
    file = bad.artefacts["score"].path(bucket_file("scores/fusion", 0))
    pl.read_parquet(file).with_columns(score=pl.lit(float("nan"), pl.Float32)).write_parquet(file)
    with pytest.raises(DataError, match="trial 'bad' is not a finite number"):
        compare([bad], SETTINGS, {})


def test_settings_that_differ_and_the_one_number_that_varies(trial):
    entries = [trial(name, tree=tree) for name, tree in SHARE.items()]
    found = compare(entries, SETTINGS, {})
    assert found["changed"] == {"train.trace_share": {"a": 0.0, "b": 0.2, "c": 0.5}}
    assert found["varied"] == "train.trace_share"
    drawn = comparison_page(found)
    assert "The trials differ in train.trace_share alone." in drawn
    assert "METEOR against AUC" in drawn


@pytest.mark.parametrize(
    "second",
    [
        {"tree": {"encoder": {"source": "sasrec"}}},
        {"tree": {"keywords": {"source": "none"}}},
        {"tree": {"traces": {"enabled": False}}},
        {"tree": {"train": {"trace_share": 0.3}}, "variant": "experts"},
        {},
    ],
    ids=["several", "text", "a switch", "another variant", "nothing"],
)
def test_what_is_no_single_number_has_no_curve(trial, second):
    found = compare([trial("a"), trial("b", **second)], SETTINGS, {})
    assert found["varied"] is None
    assert "Over the varied setting" not in comparison_page(found)


def test_experts_traces_meteor_and_cost_stand_beside_the_figures(trial):
    one, many = compare(
        [trial("a", tree={"cluster": {"num_clusters": 1}}), trial("b", tree={"cluster": {"num_clusters": 3}})], SETTINGS, {}
    )["trials"]
    assert (one["num_experts"], one["cohens_d_max"]) == (0, None)
    assert (many["num_experts"], many["cohens_d_max"], many["sizes"]) == (3, 0.5, [20, 20, 20])
    assert many["meteor"]["references"] == "teacher"
    assert 0 <= many["meteor"]["value"] <= 1
    assert many["encoder"]["name"] == "sasrec"
    assert one["cost"]["own_wall_s"] < one["cost"]["wall_s"]  # what both share is nobody's own


def test_seeds_are_paired_with_the_reference_of_their_own_and_averaged(trial):
    entries = [
        trial(f"{base}_seed{seed}", noise=noise, base=base, reference=f"a_seed{seed}", tree={"run": {"seed": seed}})
        for base, noises in (("a", (0.0, 0.5)), ("b", (2.0, 4.0)))
        for seed, noise in zip((1, 2), noises, strict=True)
    ]
    found = compare(entries, SETTINGS, {})
    assert [(row["name"], row["against"]) for row in found["differences"]] == [("b_seed1", "a_seed1"), ("b_seed2", "a_seed2")]
    areas = [row["metrics"]["auc"]["value"] for row in found["metrics"]]
    a, b = found["seeds"]
    assert (a["name"], b["name"], b["num_seeds"]) == ("a", "b", 2)
    assert b["auc"]["value"]["mean"] == pytest.approx((areas[2] + areas[3]) / 2)
    assert b["auc"]["difference"]["mean"] == pytest.approx((areas[2] - areas[0] + areas[3] - areas[1]) / 2)
    assert b["auc"]["value"]["sd"] == pytest.approx(abs(areas[2] - areas[3]) / 2**0.5)
    assert "2 seeds" in comparison_page(found)
    assert compare(entries[:1], SETTINGS, {})["seeds"] == []


def test_files_text_and_page_escape_what_comes_from_outside(trial, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    write_comparison(folder, [trial("a"), trial("b", noise=1.0)], SETTINGS, {EVIL: EVIL})
    assert sorted(path.name for path in folder.iterdir()) == sorted(COMPARISON_FILES)
    document = (folder / "comparison.html").read_text()
    assert "<script" not in document
    assert "Trials &lt;script&gt;" in document
    assert "b - a" in text_table(compare([trial("a"), trial("b", noise=1.0)], SETTINGS, {}))
