"""Every number that the page and the cards show stands in report.json, in one of the few forms the page writes numbers in."""

from __future__ import annotations

import json
import re
from typing import Any
from xml.etree import ElementTree

import pytest
from planted import report_of

from thinkrec.evaluate.report.format import count, number, percent, plain, size
from thinkrec.evaluate.report.page import page
from thinkrec.evaluate.run_report.cards import cards
from thinkrec.store.artefacts import Artefact
from thinkrec.text.duration import duration

NUMBER = re.compile(r"[+\u2212-]?\d+(?:,\d{3})*(?:\.\d+)?(?:e[+-]?\d+)?")
FORMS = (
    count,
    number,
    lambda value: number(value, signed=True),
    percent,
    plain,
    duration,
    size,
    lambda value: f"{value:.1f}",  # lift
    lambda value: f"{value:.2f}",  # Cohen's d, GPU-hours
    lambda value: f"{value:.3f}",  # p
)
DRAWN = {"training", "map"}  # curves and dots: their numbers are places, not text
SAID = {"95", "70", "256", "0.2", "0.5", "0.8", "2505.15091"}  # in the page's own sentences: 95 %, an example, SHA-256, Cohen's scale


def leaves(value: Any) -> list[Any]:
    """Every key and every value at the end of a branch."""
    if isinstance(value, dict):
        return [*value, *(leaf for below in value.values() for leaf in leaves(below))]
    return [leaf for below in value for leaf in leaves(below)] if isinstance(value, list) else [value]


def known_numbers(report: dict[str, Any]) -> set[str]:
    """All numbers of the report as the page may write them, and those inside its texts."""
    found = set(SAID)
    for leaf in leaves({name: value for name, value in report.items() if name not in DRAWN}):
        texts = [str(leaf)] if isinstance(leaf, str) else [form(leaf) for form in FORMS] if isinstance(leaf, int | float) else []
        found |= {shown for text in texts for shown in NUMBER.findall(text)}
    return found


def shown_numbers(document: str) -> set[str]:
    """Numbers in the visible text of a page; the scale of an axis says nothing about the run."""
    tree = ElementTree.fromstring(document.removeprefix("<!doctype html>").replace("<br>", "<br/>"))
    texts = []
    for element in tree.find("body").iter():
        texts += [element.tail or "", *([] if "tick" in element.get("class", "") else [element.text or ""])]
    return {shown for text in texts for shown in NUMBER.findall(text)}


def test_every_number_on_the_page_is_in_the_report(judged: Artefact):
    report = report_of(judged)
    shown = shown_numbers(judged.path("report.html").read_text())
    assert len(shown) > 150
    assert shown - known_numbers(report) == set()


def test_every_number_on_a_card_is_in_the_report(judged: Artefact):
    report = report_of(judged)
    for card in cards(report).values():
        prose = card.split("---\n", 2)[2]
        assert set(NUMBER.findall(prose)) - known_numbers(report) == set()


PARTS = ("metrics", "differences", "cells", "curves", "portraits", "traces", "fingerprint", "explanations", "cost")


@pytest.mark.parametrize("part", PARTS)
def test_a_number_that_is_not_in_the_report_is_found(judged: Artefact, part: str):
    """The control: the page is written from a report of which one part has other numbers."""
    report = report_of(judged)
    changed = json.loads(json.dumps(report))
    changed[part] = shifted(changed[part])
    assert shown_numbers(page(changed)) - known_numbers(report)


def test_the_known_numbers_do_not_swallow_everything(judged: Artefact):
    known = known_numbers(report_of(judged))
    assert sum(f"{n / 1000:.3f}" in known for n in range(1000)) < 700


def shifted(value: Any) -> Any:
    """The same tree with every number moved."""
    if isinstance(value, dict):
        return {name: shifted(below) for name, below in value.items()}
    if isinstance(value, list):
        return [shifted(below) for below in value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return value + 77_777 if isinstance(value, int) else value * 1.371 + 0.0173
