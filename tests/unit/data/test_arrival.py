"""What is said on arrival although every row is sound."""

import polars as pl
import pytest

from thinkrec.config.data import DataSection
from thinkrec.data.arrival import Scale, doubts, refuse_one_label
from thinkrec.errors import DataError

ITEMS = pl.Series([["Drama", "Crime"], ["War"], None])


def log(labels, ratings=None, split="train"):
    later = {"label": [0, 1, 0, 1], "rating": [None] * 4, "split": ["valid", "valid", "test", "test"]}
    rows = {"label": labels, "rating": ratings or [None] * len(labels), "split": [split] * len(labels)}
    kinds = {"label": pl.Int8, "rating": pl.Float32, "split": pl.String}
    return pl.concat([pl.DataFrame(rows, kinds), pl.DataFrame(later, kinds)])


def lists(*categories):
    return pl.Series(categories, dtype=pl.List(pl.String))


def counted(rows):
    """Likes and rows by split, and the scale, which adds up over parts."""
    likes = {name: (likes, number) for name, likes, number in rows.group_by("split").agg(pl.col("label").sum(), pl.len()).iter_rows()}
    return likes, sum((Scale.of(part["rating"]) for part in rows.iter_slices(3)), start=Scale())


def test_a_usual_log_raises_no_doubt():
    rows = log([0, 1, 1, 0], [0.5, 4.0, 5.0, 3.5])
    refuse_one_label(*counted(rows), DataSection())
    assert doubts(*counted(rows), ITEMS, DataSection()) == []


@pytest.mark.parametrize(
    ("labels", "ratings", "settings", "says", "fix"),
    [
        ([1, 1], [10, 100], DataSection(), "label, 1: nothing can be learnt; ratings go from 10 to 100", "data.like_threshold = 4"),
        ([0, 0], [0.2, 0.9], DataSection(), "label, 0: nothing can be learnt; ratings go from 0.2 to 0.9", "data.like_threshold = 4"),
        ([1, 1], None, DataSection(), r"label, 1: nothing can be learnt\n", 'data.label_rule = "implicit"'),
        ([1, 1], [3, 3], DataSection(source="csv", path="a", items_path="b", label_rule="user_median"), "same label", "data.label_rule"),
    ],
)
def test_one_label_in_train_is_refused(labels, ratings, settings, says, fix):
    with pytest.raises(DataError, match=says) as caught:
        refuse_one_label(*counted(log(labels, ratings)), settings)
    assert fix in caught.value.fix


@pytest.mark.parametrize(
    ("rows", "items", "says"),
    [
        (log([1] * 99 + [0]), ITEMS, r"like rate of train is 0\.9900"),
        (log([0] * 199 + [1]), ITEMS, r"like rate of train is 0\.0050"),
        (log([1, 1, 0], [9, 10, 1]), ITEMS, "ratings go from 1 to 10: data.like_threshold = 4 looks like one of another scale"),
        (log([1, 0, 0], [5, 0, 0]), ITEMS, "2 ratings are 0 or -1 and count as dislikes"),
        (log([1, 0], [5, -1]), ITEMS, "1 ratings are 0 or -1 and count as dislikes"),
        (
            pl.concat([log([0, 1]), log([1], split="test").head(1)]).filter(~((pl.col("split") == "test") & (pl.col("label") == 0))),
            ITEMS,
            "all test",
        ),
        (log([0, 1]), lists(["Drama, Crime"], ["War"], ["War, Drama"]), "most categories hold ', ', such as 'Drama, Crime'"),
        (log([0, 1]), lists(["Food,", "Coffee"], ["Bars,", "Pubs"]), "most categories hold ', '"),
        (log([0, 1]), lists(["a|b"], None), "most categories hold '|'"),
    ],
)
def test_what_is_possible_but_more_often_a_mistake_is_said(rows, items, says):
    (doubt,) = doubts(*counted(rows), items, DataSection())
    assert pl.Series([doubt]).str.contains(says.replace("|", r"\|")).all()


def test_a_scale_around_zero_and_a_scale_of_two_are_no_doubt():
    assert doubts(*counted(log([1, 0, 0], [8, -9, 0])), ITEMS, DataSection()) == []
    assert doubts(*counted(log([1, 0], [1, 0])), ITEMS, DataSection(like_threshold=1)) == []
