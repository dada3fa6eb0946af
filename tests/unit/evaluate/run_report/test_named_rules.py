"""Whether explanations name the rule that decided: named first, or it does not count."""

import polars as pl
import pytest

from thinkrec.evaluate.run_report.named_rules import rules_named

RULES = pl.DataFrame(
    {
        "row": [1, 2, 3],
        "rule": [["noir"], ["heist", "sci-fi"], ["opera"]],
        "reason": [["noir", "jazz"], ["heist", "sci-fi", "jazz"], ["opera", "jazz"]],
    }
)


def share(*texts: str) -> float:
    found = rules_named(pl.DataFrame({"row": [1, 2, 3], "text": texts}), RULES)
    assert found is not None
    return found["named_share"]


def test_rules_are_named_where_their_facets_come_first_in_any_order():
    assert share("Noir is liked, jazz or not.", "liked with Sci-Fi 1 of 2, heist 0 of 1, jazz 3 of 3", "opera.") == 1


def test_what_names_other_facets_first_or_only_part_of_the_rule_does_not_count():
    assert share("jazz and noir", "heist is liked, with jazz", "operas") == 0
    assert share("", "heist", "Yes") == 0


def test_a_list_of_all_facets_is_right_as_often_as_chance():
    found = rules_named(pl.DataFrame({"row": [2], "text": ["heist, jazz, sci-fi"]}), RULES)
    assert found == {"num_rows": 1, "named_share": 0, "chance_share": pytest.approx(1 / 3)}


def test_rows_that_no_rule_is_known_of_are_left_out():
    assert rules_named(pl.DataFrame({"row": [9], "text": ["noir"]}), RULES) is None
