"""Amazon Reviews 2018 and 2023 in the official forms, with the traps of the real files."""

import gzip
import json
from pathlib import Path

import pytest

from thinkrec.config.data import DataSection
from thinkrec.data.readers import amazon
from thinkrec.data.readers.source import Tables, collect

REVIEW_2018 = {
    "overall": 5.0,
    "verified": True,
    "reviewTime": "11 3, 2017",
    "reviewerID": "A1",
    "asin": "0001",
    "style": {"Format:": " Kindle"},
    "reviewText": "Good.",
    "unixReviewTime": 1509667200,
    "vote": "1,024",
}
META_2018 = {
    "category": ["Books", "Arts &amp; Crafts"],
    "description": ["A &quot;fine&quot;", " book."],
    "feature": ["Bound"],
    "title": "Cats &amp; Dogs",
    "brand": "Visit Amazon's Page",
    "rank": "77,001 in Books (",
    "also_buy": ["0009"],
    "price": "$39.94",
    "asin": "0001",
}
REVIEW_2023 = {
    "rating": 4.0,
    "title": "Fine",
    "text": "Fine.",
    "images": [],
    "asin": "B1",
    "parent_asin": "P1",
    "user_id": "AE",
    "timestamp": 1677939345945,
    "helpful_vote": 0,
    "verified_purchase": True,
}
META_2023 = {
    "main_category": "Books",
    "title": "A Title",
    "average_rating": 3.14159,
    "rating_number": 271828,
    "features": ["Firm"],
    "description": ["Long."],
    "price": None,
    "store": "A Store",
    "categories": ["Books", "Cats"],
    "details": {"Rank": "1618033"},
    "parent_asin": "P1",
}
READERS = {"amazon2018": (amazon.read_2018, REVIEW_2018, META_2018), "amazon2023": (amazon.read_2023, REVIEW_2023, META_2023)}


def write(path: Path, records: list[dict]) -> str:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", encoding="utf-8") as stream:
        stream.writelines(json.dumps(record) + "\n" for record in records)
    return str(path)


@pytest.fixture
def read(tmp_path):
    """read(source, reviews, metas): changes on top of an official record each."""

    def run(source: str, reviews: list[dict], metas: list[dict]) -> Tables:
        reader, review, meta = READERS[source]
        path = write(tmp_path / "Books.json.gz", [review | change for change in reviews])
        items_path = write(tmp_path / "meta_Books.json", [meta | change for change in metas])
        return collect(reader(DataSection(source=source, path=path, items_path=items_path)))

    return run


def test_2018_has_seconds_and_entities(read):
    tables = read("amazon2018", [{}], [{}])
    row = {"row": 1, "user_id": "A1", "item_id": "0001", "ts": 1509667200000, "rating": 5.0}
    assert tables.interactions.to_pylist() == [row]
    told = {"item_id": "0001", "title": "Cats & Dogs", "text": 'A "fine" book. Bound', "categories": ["Books", "Arts & Crafts"]}
    assert tables.items.to_pylist() == [told]
    assert "read as seconds" in tables.notes[0]


def test_2023_has_milliseconds_and_its_item_is_the_parent(read):
    tables = read("amazon2023", [{}], [{}])
    row = {"row": 1, "user_id": "AE", "item_id": "P1", "ts": 1677939345945, "rating": 4.0}
    assert tables.interactions.to_pylist() == [row]
    assert tables.items["text"].to_pylist() == ["Long. Firm"]
    assert "read as milliseconds" in tables.notes[0]


@pytest.mark.parametrize("source", READERS)
def test_aggregates_of_the_day_of_the_crawl_do_not_come_through(read, source):
    tables = read(source, [{}], [{}])
    shown = str(tables.items.to_pylist())
    assert not [leak for leak in ("3.14", "271828", "1618033", "77,001", "0009", "39.94") if leak in shown]


@pytest.mark.parametrize("source", READERS)
def test_the_threshold_of_a_like_is_5_unless_set(source):
    given = {"source": source, "path": "r", "items_path": "m"}
    assert DataSection(**given).like_threshold == 5.0
    assert DataSection(**given, like_threshold=4).like_threshold == 4.0
    assert DataSection(source="yelp", path="r").like_threshold == 4.0


def test_a_row_of_the_other_unit_is_refused_not_taken_for_1970(read):
    tables = read("amazon2023", [{}, {}, {"timestamp": 1677939345}], [{}])
    assert tables.quarantine.select(["row", "reason"]).to_pylist() == [{"row": 3, "reason": "ts cannot be read as milliseconds"}]
    assert tables.interactions.num_rows == 2


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"overall": 0.0}, "rating is not between 1 and 5"), ({"overall": "five"}, "rating cannot be read as a number")],
)
def test_a_rating_off_the_scale_is_refused_by_column(read, change, reason):
    tables = read("amazon2018", [{}, change], [{}])
    (aside,) = tables.quarantine.to_pylist()
    assert (aside["row"], aside["reason"]) == (2, reason)
    assert aside["source"].endswith("Books.json.gz")


def test_script_for_a_title_and_repeated_metadata(read):
    junk = [{"asin": "0002", "title": "var aPageStart = (new Date()).getTime();"}, {"asin": "0003", "title": '<span id="x">'}]
    tables = read("amazon2018", [{}], [{}, *junk, {"title": "Again"}])
    assert tables.items["title"].to_pylist() == ["Cats & Dogs", None, None]
    assert tables.quarantine.select(["row", "reason"]).to_pylist() == [{"row": 4, "reason": "a later record of the same item"}]


def test_lines_that_are_no_objects_are_refused_and_the_rest_go_on(tmp_path):
    good, meta = json.dumps(REVIEW_2023), write(tmp_path / "meta.jsonl", [META_2023])
    (tmp_path / "r.jsonl").write_bytes(b"\n".join([b"{torn", good.encode(), b"[1]", b"\xff\xfe", b"[" * 100_000, good.encode()]) + b"\n")
    tables = collect(amazon.read_2023(DataSection(source="amazon2023", path=str(tmp_path / "r.jsonl"), items_path=meta)))
    assert tables.interactions["row"].to_pylist() == [2, 6]
    assert tables.quarantine["row"].to_pylist() == [1, 3, 4, 5]


def test_half_a_character_in_a_title_does_not_stop_the_run(read):
    assert read("amazon2023", [{}], [{"title": "A \ud83d B"}]).items["title"].to_pylist() == ["A ? B"]


def test_the_benchmark_files_of_2023_are_read_too(tmp_path):
    (tmp_path / "Books.csv").write_text("user_id,parent_asin,rating,timestamp,history\nAE,P1,4.0,1677939345945,P0 P9\n")
    meta = write(tmp_path / "meta.jsonl", [META_2023])
    tables = collect(amazon.read_2023(DataSection(source="amazon2023", path=str(tmp_path / "Books.csv"), items_path=meta)))
    assert tables.interactions.drop_columns(["row"]).to_pylist() == [{"user_id": "AE", "item_id": "P1", "ts": 1677939345945, "rating": 4.0}]
