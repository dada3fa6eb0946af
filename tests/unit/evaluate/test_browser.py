"""The page in a real browser: it asks for nothing, complains about nothing and fits a phone."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser import find_browser, look

from thinkrec.store import Artefact

WIDTHS = (400, 1400)
NONE_HERE = "no chromium, chromium-browser or google-chrome on PATH: the page was NOT looked at in a browser"
OUTSIDE = "<p style='color:red'>x</p><img src='http://127.0.0.1:9/pixel.png'>"

pytestmark = [pytest.mark.skipif(find_browser() is None, reason=NONE_HERE), pytest.mark.timeout(180)]


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
