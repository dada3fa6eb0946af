"""Whether explanations name the rule that decided: named first, or it does not count."""

import polars as pl
import pytest

from thinkrec.evaluate.run_report.named_rules import rules_named

RULES = pl.DataFrame(
    {
        "row": [1, 2, 3],
        "rule": [["noir"], ["heist", "sci-fi"], ["opera"]],
        "reason": [["noir", "jazz"], ["heist", "sci-fi", "jazz"], ["opera", "chess"]],
        "trace": ["noir is liked, jazz or not.", "heist is disliked with sci-fi, jazz is liked.", "opera is liked, chess or not."],
    }
)


def found(*texts: str):
    rules = rules_named(pl.DataFrame({"row": [1, 2, 3], "text": texts, "verdict": ["Yes", "No", "No"]}), RULES)
    assert rules is not None
    return rules


def test_rules_are_named_where_their_facets_come_first_in_any_order():
    told = found("Noir is liked, jazz or not.", "liked with Sci-Fi 1 of 2, heist 0 of 1, jazz 3 of 3", "opera.")
    assert told["named_share"] == 1
    assert (told["right_share"], told["supported_share"]) == (pytest.approx(1 / 3), pytest.approx(1 / 3))


def test_what_names_other_facets_first_or_only_part_of_the_rule_does_not_count():
    assert found("jazz and noir", "heist is liked, with jazz", "operas")["named_share"] == 0
    assert found("", "heist", "Yes")["named_share"] == 0


def test_what_the_truth_table_says_is_right_and_a_named_rule_with_the_wrong_sign_is_not():
    told = found(*RULES["trace"])
    assert told == {
        "num_rows": 3,
        "named_share": 1,
        "chance_share": pytest.approx((1 / 2 + 1 / 3 + 1 / 2) / 3),
        "right_share": 1,
        "supported_share": pytest.approx(2 / 3),  # of the third the score says No
        "item_share": 1,
        "shuffled_share": pytest.approx(1 / 7),  # jazz of the first row, which the second has, too
    }
    wrong = [text.replace("is ", "is dis").replace("disdis", "") for text in RULES["trace"]]
    assert (found(*wrong)["named_share"], found(*wrong)["right_share"]) == (1, 0)


def test_facets_of_the_item_are_told_from_those_of_another_row():
    told = found("noir, jazz, robots", "heist and jazz", "chess")  # no item has robots: a word like any other
    assert told["item_share"] == 1
    assert told["shuffled_share"] == pytest.approx(1 / 5)  # jazz of the first row
    assert found("", "Yes", "")["item_share"] is None


def test_a_list_of_all_facets_is_right_as_often_as_chance():
    told = rules_named(pl.DataFrame({"row": [2], "text": ["heist, jazz, sci-fi"], "verdict": ["No"]}), RULES)
    assert (told["num_rows"], told["named_share"], told["chance_share"]) == (1, 0, pytest.approx(1 / 3))


def test_rows_that_no_rule_is_known_of_are_left_out():
    assert rules_named(pl.DataFrame({"row": [9], "text": ["noir"], "verdict": ["Yes"]}), RULES) is None
