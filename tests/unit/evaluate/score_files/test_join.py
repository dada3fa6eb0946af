"""Every file is joined on what its rows are, what repeats or contradicts is counted, and shards come to the verdict of one process."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
import pytest

from thinkrec.errors import DataError
from thinkrec.evaluate.score_files.findings import merge, settle
from thinkrec.evaluate.score_files.join import join_sources
from thinkrec.evaluate.score_files.judge import Files, InMemory, judge
from thinkrec.evaluate.score_files.read import read_part

NUM_USERS, PER_USER = 8, 12
FLIPPED = pl.col("label").replace({0: 1, 1: 0})


@pytest.fixture(scope="module")
def scores() -> pl.DataFrame:
    rng = np.random.default_rng(0)
    ids = {
        "user_id": [f"{user}" for user in range(NUM_USERS) for _ in range(PER_USER)],
        "item_id": [f"i{item}" for _ in range(NUM_USERS) for item in range(PER_USER)],
    }
    return pl.DataFrame(ids | {"score": rng.random(NUM_USERS * PER_USER).round(4), "label": rng.integers(0, 2, NUM_USERS * PER_USER)})


@dataclass
class Dealt:
    """The tables of whole users, joined apart, as on Ray."""

    tables: list[pl.DataFrame]
    warnings: list[str]

    @classmethod
    def of(cls, files: Files, number: int) -> Dealt:
        parts = files.parts()
        tables = {source: pl.concat(map(read_part, some)) for source, some in parts.items()}
        item_rows = tables["train"].group_by("item_id").agg(num_rows=pl.len()) if files.train else None
        mine = pl.col("user_id").hash(seed=1) % number
        joined = [join_sources({name: t.filter(mine == n) for name, t in tables.items()}, item_rows) for n in range(number)]
        return cls([table for table, _ in joined], settle(merge(found for _, found in joined), parts, files.given()))

    def map(self, function, *arguments):
        return (function(table, *arguments) for table in self.tables)


@pytest.fixture
def verdict(tmp_path):
    """verdict(scores, labels=, reference=, train=) -> the report, or the error as text; the same of one process and of three shards."""

    def of(**tables: pl.DataFrame) -> dict | str:
        for name, table in tables.items():
            table.write_parquet(tmp_path / f"{name}.parquet")
        files = Files(**{name: str(tmp_path / f"{name}.parquet") for name in tables})
        found = []
        for shards in (InMemory.of, lambda one: Dealt.of(one, 3)):
            try:
                found.append(judge(files, shards(files), num_bootstrap=2).report)
            except DataError as error:
                found.append(str(error).replace(f"{tmp_path}/", ""))
        whole, dealt = found
        if isinstance(whole, str) or isinstance(dealt, str):
            assert whole == dealt
        else:
            assert [r["num_rows"] for r in found] == [whole["num_rows"]] * 2
            assert [r["warnings"] for r in found] == [whole["warnings"]] * 2
            areas = [[row["metrics"]["auc"]["value"] for row in r["metrics"]] for r in found]
            assert areas[0] == pytest.approx(areas[1], abs=1e-12)
        return whole

    return of


def auc(report: dict, name: str = "scores") -> float:
    return next(row["metrics"]["auc"]["value"] for row in report["metrics"] if row["name"] == name)


def test_a_sound_file_is_judged_without_a_word(scores, verdict):
    found = verdict(scores=scores, reference=scores, train=scores.head(60).select("user_id", "item_id"))
    assert (found["num_rows"], found["warnings"]) == (96, [])


def test_an_index_that_was_not_carried_along_matches_nothing(scores, verdict):
    other = scores.sort("item_id", maintain_order=True).with_row_index("row")
    found = verdict(scores=scores.with_row_index("row"), reference=other)
    assert auc(found, "reference") == auc(found) == auc(verdict(scores=scores))
    assert "differs from that of" in found["warnings"][0]
    assert " in 94 rows; they were matched by user_id and item_id" in found["warnings"][0]
    labels = verdict(scores=scores.drop("label").with_row_index("row"), labels=other.drop("score"))
    assert auc(labels) == auc(found)


def test_repeated_pairs_are_told_apart_by_row_and_said(scores, verdict):
    twice = pl.concat([scores, scores.head(6).with_columns(score=1 - pl.col("score"))]).with_row_index("row")
    found = verdict(scores=twice, reference=twice.reverse())
    assert found["num_rows"] == 102
    assert auc(found) == auc(found, "reference")
    assert "6 of 102 rows repeat the user and item of another row" in found["warnings"][0]
    moved = twice.with_columns(row=twice["row"].reverse())
    told = verdict(scores=twice, reference=moved)
    assert "102 and 102 rows, 90 of them in both; in one alone: user_id '0', item_id 'i0', row 0;" in told
    plain = verdict(scores=twice, reference=scores)
    assert "in more than one row of the first file, and the second cannot tell them apart" in plain


def test_rows_without_item_are_matched_by_user_and_row(scores, verdict):
    numbered = scores.with_row_index("row")
    found = verdict(scores=numbered.drop("item_id"), labels=numbered.drop("score").reverse(), reference=numbered)
    assert auc(found) == auc(found, "reference") == auc(verdict(scores=scores))
    shuffled = scores.sort("item_id", maintain_order=True).with_row_index("row")
    assert "of them in both" in verdict(scores=numbered.drop("item_id"), reference=shuffled)
    assert "cannot be matched row by row" in verdict(scores=scores.drop("item_id"), reference=numbered)
    overlapping = pl.concat([numbered.head(6), numbered.slice(6, 6).with_columns(pl.col("row") - 6)])  # two writers, both from 0
    assert "cannot tell them apart" in verdict(scores=overlapping, labels=numbered.head(6).select("user_id", "row", "label"))


def test_copies_are_left_out_and_counted(scores, verdict):
    plain = verdict(scores=scores)
    for rows in (scores.tail(27), scores.head(1)):
        found = verdict(scores=pl.concat([scores, rows]))
        assert auc(found) == auc(plain)
        assert f"{rows.height} of {96 + rows.height} rows are copies of others and were left out; 96 count" in found["warnings"][0]
    numbered = pl.concat([scores.with_row_index("row"), scores.with_row_index("row").head(5)])
    assert verdict(scores=numbered)["num_rows"] == verdict(scores=numbered.drop("item_id"))["num_rows"] == 96
    for source, table in {"labels": scores.drop("score"), "reference": scores}.items():
        found = verdict(scores=scores, **{source: pl.concat([table, table.head(4)])})
        assert "4 of 100 rows are copies" in found["warnings"][0]
        assert source in found["warnings"][0]


def test_copies_that_nothing_tells_from_ties_are_counted_and_said(scores, verdict):
    found = verdict(scores=pl.concat([scores, scores.head(4)]).drop("item_id"))
    assert found["num_rows"] == 100
    assert "4 of 100 rows equal another one; without item_id nobody can tell copies from ties" in found["warnings"][0]


CONTRADICTIONS = {
    "scores": lambda t: t.with_columns(score=1 - pl.col("score")),
    "labels": lambda t: t.with_columns(label=FLIPPED),
    "reference": lambda t: t.with_columns(score=1 - pl.col("score")),
}


@pytest.mark.parametrize("source", CONTRADICTIONS)
def test_rows_of_one_pair_that_contradict_are_refused_with_the_first_of_them(scores, verdict, source):
    tables = {"scores": scores, "labels": scores.drop("score"), "reference": scores}
    tables[source] = pl.concat([tables[source], CONTRADICTIONS[source](tables[source].head(5))])
    told = verdict(**tables)
    assert told.startswith("user_id '0', item_id 'i0'; user_id '0', item_id 'i1'; user_id '0', item_id 'i2'; ... (10 rows) stand in more")
    assert f"where: {source}.parquet" in told


@pytest.mark.parametrize("source", ["labels", "reference"])
def test_a_row_has_one_label_whichever_file_tells_it(scores, verdict, source):
    other = scores.with_columns(label=pl.when(pl.int_range(pl.len()) == 3).then(FLIPPED).otherwise("label"))
    told = verdict(scores=scores, **{source: other})
    assert "user_id '0', item_id 'i3' (1 rows) stands with one label in the first file and another in the second" in told
    assert auc(verdict(scores=scores, **{source: scores})) == auc(verdict(scores=scores))


def test_numbers_of_a_mismatch_are_those_of_all_shards(scores, verdict):
    told = verdict(scores=scores.head(90), reference=scores.tail(93))
    assert told.startswith(
        "90 and 93 rows, 87 of them in both; in one alone: user_id '0', item_id 'i0'; user_id '0', item_id 'i1'; user_id"
    )
    assert verdict(scores=scores.head(90), reference=scores).startswith("90 and 96 rows, 90 of them in both; in one alone: user_id '7'")


FORMS = {"decimals": pl.col("user_id") + ".0", "zeros": "0" + pl.col("user_id"), "blanks": pl.col("user_id") + " "}
ITEMS = {"case": pl.col("item_id").str.to_uppercase(), "quotes": "'" + pl.col("item_id") + "'"}


@pytest.mark.parametrize("form", [*FORMS, *ITEMS])
@pytest.mark.parametrize("source", ["labels", "reference", "train"])
def test_ids_of_another_form_are_hinted_at(scores, verdict, source, form):
    column, spelt = ("user_id", FORMS[form]) if form in FORMS else ("item_id", ITEMS[form])
    other = scores.with_columns(spelt.alias(column))
    told = verdict(scores=scores, **{source: other})
    assert f"the ids differ in form: {column} {scores[column][0]!r} in scores.parquet is {other[column][0]!r} in {source}.parquet" in told


def test_strangers_to_train_are_no_fault(scores, verdict):
    strangers = scores.with_columns(user_id="x" + pl.col("user_id"), item_id="x" + pl.col("item_id"))
    assert verdict(scores=scores, train=strangers)["warnings"] == []
    some = pl.concat([scores.tail(84), scores.head(12).with_columns(user_id="0" + pl.col("user_id"))])
    assert verdict(scores=scores, train=some)["warnings"] == []


def test_repeated_train_rows_count_and_are_said(scores, verdict):
    train = pl.concat([scores.head(20), scores.head(3)]).select("user_id", "item_id", label=pl.lit(5))
    assert "3 of 23 rows repeat the user and item of another row" in verdict(scores=scores, train=train)["warnings"][0]


def test_a_user_under_two_forms_of_id_is_said(scores, verdict):
    other = pl.when(pl.int_range(pl.len()) < 30).then(pl.col("user_id") + ".0").otherwise("user_id")
    found = verdict(scores=scores.with_columns(user_id=other))
    assert found["num_users"] == NUM_USERS + 1
    assert "1 users may be counted as two, for their ids differ in form only: '2' and '2.0'" in found["warnings"][0]
