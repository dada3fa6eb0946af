from __future__ import annotations

import pyarrow as pa
import pytest

from thinkrec.errors import StageFailed
from thinkrec.generate.stream import check_complete

ASKED = pa.table({"id": ["a", "b", "c"]})


def test_complete_answers_come_back_in_order():
    answers = pa.table({"id": ["c", "a", "b", "a"], "attempt": [0, 1, 0, 0]})
    assert check_complete(ASKED, answers, "here").to_pydict() == {"id": ["a", "a", "b", "c"], "attempt": [0, 1, 0, 0]}


@pytest.mark.parametrize(
    ("ids", "attempts", "what"),
    [
        (["a", "b"], [0, 0], "1 of 3 rows have no answer"),
        (["a", "b", "c", "d"], [0, 0, 0, 0], "1 answers no row"),
        (["a", "b", "c", "c"], [0, 0, 1, 1], "written twice"),
    ],
)
def test_lost_foreign_and_double_answers_fail_the_stage(ids, attempts, what):
    with pytest.raises(StageFailed, match=what):
        check_complete(ASKED, pa.table({"id": ids, "attempt": attempts}), "here")


def test_questions_of_one_id_fail_the_stage():
    with pytest.raises(StageFailed):
        check_complete(pa.table({"id": ["a", "a"]}), pa.table({"id": ["a"]}), "here")
