"""Tables whose columns the run file names, in CSV and JSON lines; those that Ray Data reads are in tests/integration/test_lake.py."""

import csv
import gzip
import json
import zipfile

import pyarrow as pa
import pyarrow.csv as pacsv
import pytest

from thinkrec.config.data import DataSection
from thinkrec.data.readers import user_columns
from thinkrec.data.readers.headers import DELIMITERS
from thinkrec.data.readers.source import collect
from thinkrec.errors import DataError, MissingFileError

SECONDS = 1_600_000_000
LOG = pa.table({"who": ["a", "b"], "what": ["x", "y"], "when": [SECONDS, SECONDS + 1], "stars": [4.5, 1.0]})
ITEMS = pa.table({"what": ["x", "y"], "name": ["X", "Y, the second"], "tags": [["one", "two"], None]})
COLUMNS = {"user_id": "who", "item_id": "what", "ts": "when", "rating": "stars", "title": "name", "categories": "tags"}
EXPECTED = [
    {"user_id": "a", "item_id": "x", "ts": SECONDS * 1000, "rating": 4.5, "row": 0},
    {"user_id": "b", "item_id": "y", "ts": SECONDS * 1000 + 1000, "rating": 1.0, "row": 1},
]
EXPECTED_ITEMS = [
    {"item_id": "x", "title": "X", "text": None, "categories": ["one", "two"]},
    {"item_id": "y", "title": "Y, the second", "text": None, "categories": None},
]


def write_csv(folder, name, table):
    if "tags" in table.column_names:
        table = table.set_column(2, "tags", pa.array(["one|two", None]))
    pacsv.write_csv(table, folder / f"{name}.csv")
    return folder / f"{name}.csv"


def write_jsonl(folder, name, table):
    with gzip.open(folder / f"{name}.jsonl.gz", "wt") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in table.to_pylist())
    return folder / f"{name}.jsonl.gz"


WRITERS = {"csv": write_csv, "jsonl": write_jsonl}


def section(source, path, items_path, **settings):
    return DataSection(source=source, path=str(path), items_path=str(items_path), columns=settings.pop("columns", COLUMNS), **settings)


def read(settings):
    return collect(user_columns.read_text(settings))


@pytest.mark.parametrize("source", WRITERS)
def test_every_form_reads_the_same(tmp_path, source):
    write = WRITERS[source]
    tables = read(section(source, write(tmp_path, "log", LOG), write(tmp_path, "items", ITEMS)))
    assert tables.interactions.select(list(EXPECTED[0])).to_pylist() == EXPECTED
    assert tables.items.to_pylist() == EXPECTED_ITEMS
    assert tables.notes[0].endswith("times are read as seconds")


def test_a_missing_column_is_named_with_those_that_are_there(tmp_path):
    settings = section("csv", write_csv(tmp_path, "log", LOG), write_csv(tmp_path, "items", ITEMS), columns=COLUMNS | {"ts": "at"})
    with pytest.raises(DataError, match="'at' is missing; there are"):
        read(settings)


@pytest.mark.parametrize(
    ("unit", "value", "expected"),
    [
        ("auto", str(SECONDS), SECONDS * 1000),
        ("auto", f"{SECONDS}.25", SECONDS * 1000 + 250),
        ("auto", f"{SECONDS}123", SECONDS * 1000 + 123),
        ("auto", f"{SECONDS}123456", SECONDS * 1000 + 123),
        ("auto", f"{SECONDS}123456789", SECONDS * 1000 + 123),
        ("auto", "2020-09-13T12:26:40Z", SECONDS * 1000),
        ("auto", "2020-09-13 12:26:40.500", SECONDS * 1000 + 500),
        ("iso", "2020-09-13", 1_599_955_200_000),
        ("s", "86400", 86_400_000),
        ("ms", "86400000", 86_400_000),
    ],
)
def test_units_of_time(tmp_path, unit, value, expected):
    (tmp_path / "log.csv").write_text(f"who,what,when,stars\na,x,{value},1\n")
    tables = read(section("csv", tmp_path / "log.csv", write_csv(tmp_path, "items", ITEMS), time_unit=unit))
    assert tables.interactions["ts"].to_pylist() == [expected]


def test_times_that_are_none_stop_the_run(tmp_path):
    (tmp_path / "log.csv").write_text("who,what,when,stars\na,x,noon,1\n")
    with pytest.raises(DataError, match=r"noon.*neither numbers nor ISO dates"):
        read(section("csv", tmp_path / "log.csv", write_csv(tmp_path, "items", ITEMS)))


def test_a_folder_of_files_is_one_log_in_order_of_name(tmp_path):
    (tmp_path / "log").mkdir()
    for name, user in (("b.csv", "second"), ("a.csv", "first")):
        (tmp_path / "log" / name).write_text(f"\ufeffwho,what,when,stars\n{user},x,{SECONDS},1\n")
    tables = read(section("csv", tmp_path / "log", write_csv(tmp_path, "items", ITEMS)))
    assert tables.interactions.select(["user_id", "row"]).to_pylist() == [
        {"user_id": "first", "row": 0},
        {"user_id": "second", "row": 1 << 40},
    ]
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingFileError, match=r"ends in \.csv or \.tsv"):
        read(section("csv", tmp_path / "empty", write_csv(tmp_path, "items", ITEMS)))


@pytest.mark.parametrize("delimiter", [*DELIMITERS])
@pytest.mark.parametrize("name", ["log.csv", "log.tsv"])
def test_the_delimiter_is_the_one_under_which_the_header_names_the_columns(tmp_path, name, delimiter):
    names = ["", "who", "what, or; so|\tit is", "what", "when", "stars"]
    rows = [names, [0, "a", "n", "x", SECONDS, 4.5], [1, "b", "n", "y", SECONDS + 1, 1]]
    with (tmp_path / name).open("w", newline="") as stream:
        writer = csv.writer(stream, delimiter=delimiter)
        stream.write("\n")  # a blank line is none
        writer.writerows(rows)
    with (tmp_path / "items.csv").open("w", newline="") as stream:
        csv.writer(stream, delimiter=delimiter).writerows([["what", "name", "tags"], ["x", "X", "one|two"], ["y", "Y, the second", ""]])
    tables = read(section("csv", tmp_path / name, tmp_path / "items.csv"))
    assert tables.interactions.select(list(EXPECTED[0])).to_pylist() == EXPECTED
    assert tables.items.to_pylist() == EXPECTED_ITEMS
    assert not tables.quarantine.num_rows


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ("who:what:when:stars", "'who' is missing.*there are who:what:when:stars"),
        ("who;what;when,stars", "'when' is missing.*there are who, what, when,stars"),
        ("who,what,when,stars,x;who;what;when;stars", "names the columns with commas as well as with semicolons"),
    ],
)
def test_a_header_that_fits_no_delimiter_or_two_is_refused(tmp_path, header, says):
    (tmp_path / "log.csv").write_text(f"{header}\na;x;{SECONDS};1\n")
    with pytest.raises(DataError, match=says) as caught:
        read(section("csv", tmp_path / "log.csv", write_csv(tmp_path, "items", ITEMS)))
    assert caught.value.where.endswith("log.csv")
    assert "delimiter" in caught.value.fix or "commas, tabs, semicolons, bars" in caught.value.fix


def test_a_name_that_goes_on_in_the_next_line_hides_no_delimiter(tmp_path):
    (tmp_path / "log.csv").write_text(f'who;what;when;stars;"a; long,\nlong, name"\na;x;{SECONDS};1;2\n')
    tables = read(section("csv", tmp_path / "log.csv", write_csv(tmp_path, "items", ITEMS)))
    assert tables.interactions["user_id"].to_pylist() == ["a"]


def test_decimal_commas_between_semicolons_are_refused_by_row_as_they_stand(tmp_path):
    (tmp_path / "log.csv").write_text(f"who;what;when;stars\na;x;{SECONDS};4,5\nb;y;{SECONDS};1.0\nb;x;{SECONDS};3,5;\n")
    tables = read(section("csv", tmp_path / "log.csv", write_csv(tmp_path, "items", ITEMS)))
    assert tables.interactions["user_id"].to_pylist() == ["b"]
    refused = {row["reason"]: row["content"] for row in tables.quarantine.to_pylist()}
    assert '"rating":"4,5"' in refused["rating cannot be read as a number"]
    assert refused["not 4 fields, as the header has"] == f"b;x;{SECONDS};3,5;"


def test_a_folder_or_archive_of_tsv_is_read_where_there_is_no_csv(tmp_path):
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "a.tsv").write_text(f"who\twhat\twhen\tstars\na\tx\t{SECONDS}\t1\n")
    items = write_csv(tmp_path, "items", ITEMS)
    assert read(section("csv", tmp_path / "log", items)).interactions["user_id"].to_pylist() == ["a"]
    with zipfile.ZipFile(tmp_path / "log.zip", "w") as archive:
        archive.write(tmp_path / "log" / "a.tsv", "in/a.tsv")
    assert read(section("csv", tmp_path / "log.zip", items)).interactions["user_id"].to_pylist() == ["a"]


def test_torn_cells_are_refused_by_line_and_the_rest_go_on(tmp_path):
    lines = [b"who,what,when,stars", b"a,x,%d,1" % SECONDS, b"a,x", b"a,\xff,1,1", b"a,x,%d,many" % SECONDS, b"b,y,%d,2" % SECONDS]
    (tmp_path / "log.csv").write_bytes(b"\n".join(lines))
    tables = read(section("csv", tmp_path / "log.csv", write_csv(tmp_path, "items", ITEMS)))
    assert tables.interactions["user_id"].to_pylist() == ["a", "b"]
    reasons = tables.quarantine["reason"].to_pylist()
    assert reasons == ["not 4 fields, as the header has", "not UTF-8", "rating cannot be read as a number"]


@pytest.mark.parametrize(("label", "good"), [("1", True), ("0.0", True), ("True", True), ("false", True), ("0.5", False), ("like", False)])
def test_a_label_is_a_whole_number_or_its_row_is_refused(tmp_path, label, good):
    (tmp_path / "log.csv").write_text(f"row,who,what,when,label\n9,a,x,{SECONDS},{label}\n")
    columns = COLUMNS | {"rating": "", "label": "label"}
    tables = read(section("csv", tmp_path / "log.csv", write_csv(tmp_path, "items", ITEMS), columns=columns))
    assert tables.interactions.num_rows == good
    assert tables.interactions["row"].to_pylist() == [0] * good  # the file's own column `row` is not ours
    assert tables.quarantine["reason"].to_pylist() == ["label cannot be read as 0 or 1"] * (not good)


def test_lines_that_a_quote_swallows_are_refused_one_by_one(tmp_path):
    rows = ['"a,x,1,1', *["b,x,1,1"] * 30, 'c,"x,1,1', "b,x,1,1", '"never closed,x,1,1', *["b,x,1,1"] * 5]
    (tmp_path / "log.csv").write_text("\n".join(["who,what,when,stars", *rows]) + "\n")
    tables = read(section("csv", tmp_path / "log.csv", write_csv(tmp_path, "items", ITEMS)))
    assert tables.interactions.num_rows == 1
    assert tables.quarantine["row"].to_pylist() == [*range(2, 34), *range(35, 41)]
    assert set(tables.quarantine["reason"].to_pylist()) == {"a quotation mark is never closed, or not doubled inside a quoted cell"}
    assert tables.quarantine["content"].to_pylist()[1] == "b,x,1,1"
