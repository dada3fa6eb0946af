"""Plots, sentences and the text table: what they say, and that nothing from data gets through unescaped."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from thinkrec.evaluate.report import svg
from thinkrec.evaluate.report.headline import sentences, title
from thinkrec.evaluate.report.html import tree
from thinkrec.evaluate.report.table import report_text

EVIL = '<script>"&'
DRAWINGS = {
    "intervals": svg.intervals(EVIL, [svg.Bar(EVIL, 0.5, 0.4, 0.6, True), svg.Bar("b", None), svg.Bar("c", 0.7)], 0.55),
    "lines": svg.lines(EVIL, {EVIL: [(0, 1.0), (1, 0.5), (2, float("nan"))], "b": [(0, 1.0)]}, EVIL, EVIL),
    "gantt": svg.gantt(EVIL, [svg.Span(EVIL, 0, 0.0, 9.0), svg.Span("b", 1, 1.0, 1.0)]),
    "calibration": svg.calibration(EVIL, {EVIL: [(0.1, 0.2), (0.8, 0.9)]}),
    "curves": svg.curves(EVIL, {EVIL: [(0.1, svg.Bar("a", 0.5, 0.4, 0.6)), (0.5, svg.Bar("b", None))], "b": []}, EVIL),
    "trade": svg.trade(EVIL, {"a": [(0.7, 0.1, EVIL), (0.8, 0.2, "c")], EVIL: [(0.7, 0.3, "d")]}, "x", "y"),
    "bars": svg.bars(EVIL, [(EVIL, 3.0, EVIL), ("b", 0.0, "0")]),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_drawings_are_well_formed_and_escaped(name):
    drawing = ElementTree.fromstring(DRAWINGS[name])
    assert drawing.get("aria-label") == EVIL
    assert EVIL in [text.text for text in drawing.iter("text")] or name == "calibration" or name == "lines"
    assert "<script" not in DRAWINGS[name]
    assert "nan" not in DRAWINGS[name]


def test_nothing_to_draw_is_nothing():
    assert not any([svg.intervals("a", [svg.Bar("a", None)]), svg.lines("a", {}, "x", "y"), svg.gantt("a", []), svg.bars("a", [])])
    assert not any([svg.curves("a", {"s": [(1, svg.Bar("a", None))]}, "x"), svg.trade("a", {}, "x", "y")])


def test_a_dot_stands_inside_its_interval_in_the_right_order():
    drawing = ElementTree.fromstring(svg.intervals("a", [svg.Bar("a", 0.5, 0.4, 0.7), svg.Bar("b", 0.6, 0.55, 0.65)]))
    dots = [float(dot.get("cx")) for dot in drawing.iter("circle")]
    ranges = [line for line in drawing.iter("line") if line.get("class").startswith("range")]
    assert dots[0] < dots[1]
    assert all(float(line.get("x1")) < dot < float(line.get("x2")) for line, dot in zip(ranges, dots, strict=True))


def test_a_curve_is_drawn_over_numbers_in_their_order():
    points = [(0.5, svg.Bar("c", 0.7)), (0.0, svg.Bar("a", 0.5)), (0.1, svg.Bar("b", 0.6, 0.5, 0.7))]
    drawing = ElementTree.fromstring(svg.curves("a", {"one": points}, "x"))
    first, second, third = (float(dot.get("cx")) for dot in drawing.iter("circle"))
    assert third - first == pytest.approx(5 * (second - first), rel=0.01)  # 0, .1, .5: not evenly spaced
    heights = [float(dot.get("cy")) for dot in drawing.iter("circle")]
    assert heights == sorted(heights, reverse=True)


def test_constant_curves_can_be_drawn():
    ElementTree.fromstring(svg.lines("a", {"a": [(0, 0.0), (1, 0.0)]}, "x", "y"))
    ElementTree.fromstring(svg.intervals("a", [svg.Bar("a", 0.5)]))


def report(auc: tuple[float, float], uauc: tuple[float, float], baseline: float = 0.6) -> dict:
    """A report whose differences to the two-number baseline have these intervals."""

    def difference(bounds: tuple[float, float]) -> dict:
        return {"value": sum(bounds) / 2, "low": bounds[0], "high": bounds[1], "p": 0.5}

    def metrics(area: float) -> dict:
        return {name: {"value": area, "low": None, "high": None, "num_users": 9, "num_dropped": 1} for name in METRICS}

    return {
        "best": "fusion",
        "num_rows": 100,
        "num_users": 10,
        "metrics": [
            {"name": "fusion", "kind": "model", "metrics": metrics(0.7)},
            {"name": "logistic", "kind": "baseline", "metrics": metrics(baseline)},
        ],
        "differences": [
            {
                "name": "fusion",
                "against": "user_item_rate",
                "metrics": {name: difference(uauc if name == "uauc" else auc) for name in METRICS},
            }
        ],
    }


METRICS = ("auc", "uauc", "ndcg@5", "map@5")
UP, EVEN, DOWN = (0.01, 0.03), (-0.01, 0.02), (-0.04, -0.01)


@pytest.mark.parametrize(
    ("auc", "uauc", "said"),
    [
        (UP, UP, "Better than the two-number baseline"),
        (UP, EVEN, "Better than the two-number baseline on AUC, not better on UAUC"),
        (UP, DOWN, "Better than the two-number baseline on AUC, worse on UAUC"),
        (EVEN, EVEN, "Not better than the two-number baseline"),
        (DOWN, EVEN, "Worse than the two-number baseline on AUC"),
        (DOWN, DOWN, "Worse than the two-number baseline on AUC and UAUC"),
    ],
)
def test_headline_claims_only_what_the_interval_says(auc, uauc, said):
    assert title(report(auc, uauc)) == said


def with_a_prior(auc: tuple[float, float], uauc: tuple[float, float], weight: float = 0.4, num_valid_rows: int = 2000) -> dict:
    """The same of a run with a prior, to which the differences are."""
    found = report(auc, uauc)
    found["differences"][0]["against"] = "prior"
    return found | {"prior": {"model_weight": weight, "num_valid_rows": num_valid_rows}}


@pytest.mark.parametrize(
    ("auc", "uauc", "said"),
    [
        (UP, UP, "The language model adds to the counted prior on AUC and UAUC"),
        (UP, DOWN, "The language model adds to the counted prior on AUC and takes away from it on UAUC"),
        (EVEN, EVEN, "The language model adds nothing to the counted prior that can be told from chance"),
        (EVEN, DOWN, "The language model takes away from the counted prior on UAUC"),
    ],
)
def test_with_a_prior_the_headline_is_what_the_model_adds_to_it(auc, uauc, said):
    assert title(with_a_prior(auc, uauc)) == said
    assert sentences(with_a_prior(auc, uauc))[0].startswith("What the language model adds to counting alone: AUC")


def test_the_weight_of_the_model_is_said_also_when_it_is_nothing():
    assert "The model's score weighs 0.400 beside the prior, by log loss on 2,000 valid rows." in sentences(with_a_prior(UP, UP))
    assert any("the language model has no part in them" in said for said in sentences(with_a_prior(EVEN, EVEN, weight=0.0)))
    assert any("There were no valid rows" in said for said in sentences(with_a_prior(UP, UP, 1.0, 0)))


def test_a_stronger_baseline_is_named():
    assert any("Logistic with 0.800, not below the model's 0.700" in sentence for sentence in sentences(report(UP, UP, baseline=0.8)))
    assert any("below the model's 0.700" in sentence for sentence in sentences(report(UP, UP, baseline=0.6)))


def test_text_table_shows_users_differences_and_headline():
    text = report_text(report(UP, EVEN))
    assert text.startswith("Better than the two-number baseline on AUC")
    assert "9 / 1" in text
    assert "+0.020 (+0.010 to +0.030) better" in text
    assert "even" in text


def test_tree_escapes_and_flattens():
    assert "a.b" in tree({"a": {"b": 1234567}})
    assert "1,234,567" in tree({"a": {"b": 1234567}})
    assert "<script" not in tree({EVIL: [EVIL]})
