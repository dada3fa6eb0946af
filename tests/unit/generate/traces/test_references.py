"""What is asked for the report: the explained rows and no others, and only answers that pass."""

from __future__ import annotations

import polars as pl
import pytest

from thinkrec.config.run import parse
from thinkrec.generate.traces import references
from thinkrec.generate.traces.teacher import Teacher
from thinkrec.job import Job
from thinkrec.store.artefacts import Store

TEACHERS = [Teacher("one", "", "h1", 1.0, False), Teacher("two", "", "h2", 1.0, False)]
ROWS = list(range(40, 60))


def attempt(row: int, number: int, reason: str) -> dict:
    """An attempt as `judge` leaves it."""
    told = {"row": row, "user_id": "u", "attempt": number, "hinted": False, "verdict": 1, "text": "a", "finish_reason": "stop"}
    told |= {"num_tokens": 2, "teacher": "one", "model": "h", "prompt": "p", "seed": 1, "reason": reason, "detail": ""}
    return told | dict.fromkeys(("num_claims", "num_right", "num_tastes", "num_tastes_right"), 1)


@pytest.fixture
def made(tmp_path, monkeypatch):
    """made(tree) runs the stage with teachers who are wrong at first about even rows; returns the artefact and who was asked what."""
    asked: dict[str, set[int]] = {}

    def ask(job, teacher, rows):
        asked[teacher.name] = rows
        return [], [attempt(row, n, "wrong verdict" if n < 1 - row % 2 else "") for row in sorted(rows) for n in range(2 - row % 2)]

    monkeypatch.setattr(references, "ask", ask)
    monkeypatch.setattr(references, "load_teachers", lambda places: TEACHERS)

    def run(tree: dict):
        store = Store(str(tmp_path))
        with store.create("score", "k", {}, {}) as draft:
            pl.DataFrame({"row": ROWS}).write_parquet(draft.local() / "explanations.parquet")
        inputs = {"score": store.find("score", "k")}
        with store.create("references", "k", inputs, {}) as draft:
            references.run(Job(parse(tree), inputs, draft, store, "k", lambda event: None))
        return store.find("references", "k"), asked

    return run


def test_every_explained_row_is_asked_of_one_teacher_and_refused_answers_are_kept_apart(made):
    artefact, asked = made({})
    assert asked["one"] | asked["two"] == set(ROWS)
    assert not asked["one"] & asked["two"]
    told, refused = (pl.read_parquet(artefact.path(f"{folder}references.parquet")) for folder in ("", "quarantine/"))
    assert told["row"].to_list() == ROWS
    assert refused["row"].to_list() == [row for row in ROWS if row % 2 == 0]
    assert (artefact.figures["num_asked"], artefact.figures["num_accepted"]) == (20, 20)


def test_without_traces_nobody_is_asked(made):
    artefact, asked = made({"traces": {"enabled": False}})
    assert asked == {}
    assert pl.read_parquet(artefact.path("references.parquet")).is_empty()
    assert artefact.figures["used"] is False
