"""The page in a real browser: it asks for nothing, complains about nothing and fits a phone."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from browser import find_browser, look
from trial_entries import SETTINGS, Trials

from thinkrec.evaluate.compare import write_comparison
from thinkrec.store.artefacts import Artefact

WIDTHS = (400, 1400)
NONE_HERE = "no chromium, chromium-browser or google-chrome on PATH: the page was NOT looked at in a browser"
OUTSIDE = "<p style='color:red'>x</p><img src='http://127.0.0.1:9/pixel.png'>"

pytestmark = [pytest.mark.skipif(find_browser() is None, reason=NONE_HERE), pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def compared(inputs: dict[str, Artefact], judged: Artefact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The comparison of a sweep with everything a page may show: a curve, seeds, trials on other rows, long names, a failure."""
    trial, folder = Trials(inputs, judged, tmp_path_factory.mktemp("trials")), tmp_path_factory.mktemp("compared")
    shares = (0.0, 0.1, 0.2, 0.5)
    entries = [
        trial(
            f"share_of_traces_{share}_seed{seed}",
            noise=2 * share + seed / 4,
            base=f"share_of_traces_{share}",
            reference=f"share_of_traces_0.0_seed{seed}",
            tree={"train": {"trace_share": share}, "run": {"seed": seed}},
            rows=pl.col("row") % 2 == 0 if (share, seed) == (0.5, 1) else None,
        )
        for share in shares
        for seed in (1, 2)
    ]
    write_comparison(folder, entries, SETTINGS, {"share_of_traces_0.9_seed1": "the worker group failed: " + "word" * 60})
    return folder / "comparison.html"


@pytest.mark.parametrize("width", WIDTHS)
def test_the_comparison_asks_for_nothing_complains_of_nothing_and_fits(compared: Path, width: int):
    seen = look(compared, width)
    assert seen.requests == [compared.resolve().as_uri()]
    assert seen.complaints == []
    assert seen.wider == []
    assert seen.page_width <= width


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_asks_for_nothing_complains_of_nothing_and_fits(judged: Artefact, width: int):
    page = judged.path("report.html")
    seen = look(page, width)
    assert seen.requests == [page.resolve().as_uri()]
    assert seen.complaints == []
    assert seen.wider == []
    assert seen.page_width <= width


def test_the_look_sees_requests_complaints_and_overflow(tmp_path: Path):
    """The control: a page that does all of it."""
    page = tmp_path / "bad.html"
    page.write_text(f"<body>{OUTSIDE}<div style='width:900px'>wide</div><script>console.error('oh'); missing()</script>")
    seen = look(page, 400)
    assert "http://127.0.0.1:9/pixel.png" in seen.requests
    assert len(seen.complaints) >= 2
    assert any("900px" in element for element in seen.wider)


def test_the_policy_of_the_page_stops_what_slips_in(judged: Artefact, tmp_path: Path):
    page = tmp_path / "slipped.html"
    page.write_text(judged.path("report.html").read_text().replace("</main>", f"{OUTSIDE}<script>document.title = 'ran'</script></main>"))
    seen = look(page, 400)
    assert any("Content Security Policy" in complaint for complaint in seen.complaints)
    assert seen.title != "ran"
