"""The Yelp open dataset: review and business lines as Yelp writes them."""

import json
import tarfile
import zipfile
from pathlib import Path

import pytest

from thinkrec.config.data import DataSection
from thinkrec.data.readers import yelp
from thinkrec.data.readers.source import collect
from thinkrec.errors import MissingFileError

BUSINESS = {
    "business_id": "b1",
    "name": "Cafe One",
    "city": "Santa Barbara",
    "state": "CA",
    "stars": 4.31,
    "review_count": 98765,
    "is_open": 1,
    "attributes": {
        "BusinessAcceptsCreditCards": "True",
        "BikeParking": "False",
        "WiFi": "u'free'",
        "BusinessParking": "{'garage': False, 'street': True}",
    },
    "categories": "Coffee & Tea, Food",
    "hours": None,
}
REVIEW = {"review_id": "r", "user_id": "u1", "business_id": "b1", "stars": 4.0, "useful": 1, "text": "x", "date": "2018-07-07 22:09:11"}
FILES = {yelp.REVIEWS: [REVIEW], yelp.BUSINESSES: [BUSINESS, BUSINESS | {"business_id": "b2", "attributes": None, "categories": None}]}


@pytest.fixture
def folder(tmp_path) -> Path:
    for name, records in FILES.items():
        (tmp_path / name).write_text("".join(json.dumps(record) + "\n" for record in records))
    return tmp_path


def read(path: Path):
    return collect(yelp.read(DataSection(source="yelp", path=str(path))))


def test_reviews_are_rows_with_dates_in_utc(folder):
    row = {"row": 1, "user_id": "u1", "item_id": "b1", "ts": 1531001351000, "rating": 4.0}
    assert read(folder).interactions.to_pylist() == [row]


def test_a_state_stays_a_state(folder):
    """The published notebook took CA for Canada (D25)."""
    told = read(folder).items.to_pylist()
    assert told[0]["text"] == "Santa Barbara, CA. business accepts credit cards, street"
    assert told[0]["categories"] == ["Coffee & Tea", "Food"]
    assert told[1]["text"] == "Santa Barbara, CA"
    assert told[1]["categories"] is None
    assert "Canada" not in str(told)


def test_snapshot_aggregates_do_not_come_through(folder):
    shown = str(read(folder).items.to_pylist())
    assert "4.31" not in shown
    assert "98765" not in shown


@pytest.mark.parametrize("value", ["{__import__('os').abort(): 1}", "{" * 3000, "{'a'", "{'a': 1 + True}"])
def test_an_attribute_is_a_literal_and_never_run(value):
    assert yelp.true_attributes({"Parking": value}) == []


def test_a_bad_date_and_a_repeated_business_are_refused(folder):
    with (folder / yelp.REVIEWS).open("a") as stream:
        stream.write(json.dumps(REVIEW | {"date": "yesterday"}) + "\n")
    with (folder / yelp.BUSINESSES).open("a") as stream:
        stream.write(json.dumps(BUSINESS) + "\n")
    aside = read(folder).quarantine.select(["row", "reason"]).to_pylist()
    assert aside == [
        {"row": 2, "reason": "ts cannot be read as dates and times in UTC"},
        {"row": 3, "reason": "a later record of the same item"},
    ]


def test_the_archive_reads_like_the_folder_and_a_missing_file_is_named(folder):
    with zipfile.ZipFile(folder / "yelp.zip", "w") as target:
        for name in FILES:
            target.write(folder / name, f"yelp/{name}")
    assert read(folder / "yelp.zip").interactions == read(folder).interactions
    with tarfile.open(folder / "yelp_dataset.tar", "w") as target:
        for name in FILES:
            target.add(folder / name, name)
    with zipfile.ZipFile(folder / "Yelp-JSON.zip", "w") as target:
        target.write(folder / "yelp_dataset.tar", "Yelp JSON/yelp_dataset.tar")
    for archive in ("yelp_dataset.tar", "Yelp-JSON.zip"):  # as Yelp ships it
        assert read(folder / archive).interactions == read(folder).interactions
    (folder / yelp.BUSINESSES).unlink()
    with pytest.raises(MissingFileError, match="business"):
        read(folder)
