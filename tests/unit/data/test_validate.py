"""What is refused, what is set aside with a reason, and what stops the run."""

from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from thinkrec.artefacts.ingest import ITEMS
from thinkrec.config.data import DataSection
from thinkrec.data.readers.source import Tables, refused
from thinkrec.data.refused import Refusal, add, reasons_of
from thinkrec.data.validate import Census, Fault, judge, refuse_log, validate_items
from thinkrec.errors import DataError

TS = 1_600_000_000_000
LENIENT = DataSection(max_bad_share=0.5)
TYPES = {"row": pa.int64(), "user_id": pa.string(), "item_id": pa.string(), "ts": pa.int64(), "rating": pa.float32(), "label": pa.int64()}


def tables(rows: list[dict[str, Any]], items: list[dict[str, Any]] | None = None) -> Tables:
    """Rows on top of a good one each; columns that no row names are left out."""
    names = {name for row in rows for name in row} | {"row", "user_id", "item_id", "ts"}
    if not names & {"rating", "label"}:
        names.add("label")
    whole = [{"row": n, "user_id": f"u{n}", "item_id": "x", "ts": TS + n, "label": 1} | row for n, row in enumerate(rows)]
    schema = pa.schema([(name, kind) for name, kind in TYPES.items() if name in names])
    given_items = [{"item_id": "x", "title": "X"}] if items is None else items
    return Tables("here", pa.Table.from_pylist(whole, schema), pa.Table.from_pylist(given_items, ITEMS))


def validate(given: Tables, settings: DataSection) -> Tables:
    """The tables judged as one block, as `ingest` judges each."""
    items = validate_items(given.source, given.items, given.bad_items)
    rows, bad, census = judge(given.interactions, items.table["item_id"].combine_chunks(), settings)
    refused_rows = add(reasons_of(given.bad_interactions), reasons_of(bad))
    refuse_log(given.source, replace(census, refused=refused_rows), items, reasons_of(items.bad), settings)
    bad_rows = pa.concat_tables([given.bad_interactions, bad])
    return replace(given, interactions=rows.to_arrow(), items=items.table, bad_interactions=bad_rows, bad_items=items.bad)


def test_good_rows_pass_untouched():
    given = tables([{}, {"label": 0}])
    judged = validate(given, DataSection(max_bad_share=0))
    assert judged.interactions.select(["row", "user_id", "item_id", "ts", "label"]).to_pylist() == given.interactions.to_pylist()
    assert judged.interactions["label"].type == pa.int8()
    assert judged.items == given.items
    assert judged.quarantine.num_rows == 0


def test_blocks_add_up_to_the_whole():
    rows = [{"user_id": "../a"}, {"item_id": "z"}, {"label": 7}, {"item_id": "y"}, {"user_id": ""}, {}, {"user_id": "../b", "item_id": "z"}]
    given = tables(rows, [{"item_id": "x", "title": "X"}])
    item_ids = pa.array(["x"])

    def census(table: pa.Table) -> Census:
        _, bad, counted = judge(table, item_ids, LENIENT)
        return replace(counted, refused=reasons_of(bad))

    whole = census(given.interactions)
    assert whole == sum((census(given.interactions.slice(at, 2)) for at in range(0, 7, 2)), start=Census())
    assert whole.escapes == {"user_id": Fault(2, 0, "../a")}
    assert (whole.wrong_labels, whole.unknown, whole.newest) == (Fault(1, 2, "7"), ("y", "z"), TS + 6)
    assert whole.refused["item_id is not among the items"] == Refusal(
        3, "interactions", 1, whole.refused["item_id is not among the items"].content
    )


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"user_id": None}, "user_id is null or empty"),
        ({"user_id": ""}, "user_id is null or empty"),
        ({"item_id": None}, "item_id is null or empty"),
        ({"user_id": "a\nb"}, "user_id has control characters"),
        ({"user_id": "a" * 201}, "user_id is longer than 200 characters"),
        ({"item_id": "z"}, "item_id is not among the items"),
        ({"ts": None}, "ts is not in milliseconds of 1970 to 2100"),
        ({"ts": -1}, "ts is not in milliseconds of 1970 to 2100"),
        ({"ts": TS * 1000}, "ts is not in milliseconds of 1970 to 2100"),
        ({"label": None}, "neither label nor rating"),
        ({"rating": float("nan"), "label": None}, "neither label nor rating"),
    ],
)
def test_a_bad_row_is_set_aside_with_its_reason(row, reason):
    judged = validate(tables([{}, row, {}]), LENIENT)
    assert judged.interactions["row"].to_pylist() == [0, 2]
    (aside,) = judged.quarantine.to_pylist()
    assert (aside["source"], aside["row"], aside["reason"]) == ("interactions", 1, reason)
    assert aside["content"].startswith('{"user_id":')
    assert len(aside["content"]) <= 500


def test_ids_of_200_characters_and_of_any_script_are_fine():
    rows = [{"user_id": "a" * 200}, {"user_id": "\u00fc\u4f60 .-/x"}, {"user_id": "a..b"}]
    assert validate(tables(rows), DataSection(max_bad_share=0)).interactions.num_rows == 3


@pytest.mark.parametrize("identity", ["../x", "..\\x", "x/..", "a/../../b", "x\x00y"])
@pytest.mark.parametrize("column", ["user_id", "item_id"])
def test_an_id_that_climbs_out_of_a_folder_stops_the_run(identity, column):
    with pytest.raises(DataError) as caught:
        validate(tables([{}, {column: identity}]), LENIENT)
    assert caught.value.where == f"here: {column} of row 1"
    assert repr(identity) in caught.value.what


def test_an_item_that_climbs_stops_the_run_too():
    with pytest.raises(DataError, match="climb out"):
        validate(tables([{}], [{"item_id": "x", "title": "X"}, {"item_id": "../y", "title": "Y"}]), LENIENT)


def test_items_without_title_leave_with_their_rows():
    judged = validate(tables([{}, {}, {"item_id": "y"}], [{"item_id": "x", "title": "X"}, {"item_id": "y", "title": "Y"}]), LENIENT)
    assert judged.interactions.num_rows == 3
    given = tables([{}, {}, {"item_id": "y"}])
    untitled = pa.table(
        {"item_id": ["x", "y"], "title": ["X", None], "text": pa.nulls(2, pa.string()), "categories": pa.nulls(2, ITEMS.types[3])}
    )
    judged = validate(Tables("here", given.interactions, untitled), LENIENT)
    assert judged.items["item_id"].to_pylist() == ["x"]
    assert judged.quarantine["reason"].to_pylist() == ["item_id is not among the items", "title is null"]


@pytest.mark.parametrize("label", [2, -1, 300])
def test_a_label_that_is_no_label_stops_the_run(label):
    with pytest.raises(DataError, match="neither 0 nor 1") as caught:
        validate(tables([{}, {"label": label}]), LENIENT)
    assert caught.value.where == "here: label of row 1"
    assert caught.value.exit_code == 2


def test_doubled_items_stop_the_run():
    with pytest.raises(DataError, match="item_id are doubled or null: x"):
        validate(tables([{}], [{"item_id": "x", "title": "X"}] * 2), LENIENT)


def test_seconds_are_recognised():
    with pytest.raises(DataError, match="looks like seconds"):
        validate(tables([{"ts": TS // 1000}, {"ts": TS // 1000 + 1}]), LENIENT)


def test_empty_tables_stop_the_run():
    with pytest.raises(DataError, match="interactions has no usable row"):
        validate(tables([]), LENIENT)
    with pytest.raises(DataError, match="items has no usable row"):
        validate(tables([], []), LENIENT)


def test_too_many_bad_rows_stop_the_run_with_counts_per_reason():
    rows = [*[{}] * 95, *[{"user_id": None}] * 2, {"label": None}]
    assert validate(tables(rows), DataSection(max_bad_share=0.04)).quarantine.num_rows == 3
    with pytest.raises(DataError) as caught:
        validate(tables(rows), DataSection(max_bad_share=0.02))
    assert (
        "3 rows of interactions cannot be used (3.1%, allowed 2.0%): user_id is null or empty: 2; neither label nor rating: 1"
        in caught.value.what
    )
    assert "interactions row 95" in caught.value.where


def test_rows_the_reader_refused_count_as_bad():
    given = tables([{}] * 9)
    parsed = Tables(given.source, given.interactions, given.items, bad_interactions=refused("ratings.dat", [3], ["torn"], ["1::"]))
    assert validate(parsed, LENIENT).quarantine.to_pylist()[0]["reason"] == "torn"
    with pytest.raises(DataError, match="torn: 1"):
        validate(parsed, DataSection(max_bad_share=0.05))
