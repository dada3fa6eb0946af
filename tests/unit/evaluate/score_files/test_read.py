"""Every form a score file may have reads as the same table; every broken one is an error that says where."""

from __future__ import annotations

import gzip
import shutil
from types import MappingProxyType

import polars as pl
import pytest

from thinkrec.errors import DataError, MissingFileError
from thinkrec.evaluate.score_files import parts as score_parts
from thinkrec.evaluate.score_files.parts import FILE_COLUMNS, file_parts
from thinkrec.evaluate.score_files.read import read_part

NEEDED = ("user_id", "score", "label")
TABLE = pl.DataFrame(
    {
        "user_id": [f"{n // 3:03d}" for n in range(30)],
        "item_id": [f"0{n % 10}" for n in range(30)],
        "score": [n / 30 - 0.5 for n in range(30)],
        "label": [n % 2 for n in range(30)],
    },
    schema={name: FILE_COLUMNS[name] for name in ("user_id", "item_id", "score", "label")},
)
ATOMIC = {"user_id": "user_id:token", "item_id": "item_id:token", "score": "score:float", "label": "label:float"}

FORMS = {
    "scores.parquet": lambda path: TABLE.write_parquet(path),
    "few.parquet": lambda path: TABLE.write_parquet(path, row_group_size=7),
    "scores.csv": lambda path: TABLE.write_csv(path),
    "scores.tsv": lambda path: TABLE.write_csv(path, separator="\t"),
    "scores.jsonl": lambda path: TABLE.write_ndjson(path),
    "scores.inter": lambda path: TABLE.rename(ATOMIC).write_csv(path, separator="\t"),
    "atomic.parquet": lambda path: TABLE.rename(ATOMIC).with_columns(pl.col("label:float").cast(pl.Float32)).write_parquet(path),
    "more.parquet": lambda path: TABLE.with_columns(features=pl.concat_list("score")).write_parquet(path),
    "categories.parquet": lambda path: TABLE.with_columns(pl.col("user_id").cast(pl.Categorical)).write_parquet(path),
}


def read(path: str, needed=NEEDED, names=MappingProxyType({}), strict: bool = True) -> pl.DataFrame:
    return pl.concat([read_part(part) for part in file_parts(path, needed, names, strict)])


@pytest.mark.parametrize("name", FORMS)
def test_every_form_reads_as_the_same_table(tmp_path, name):
    FORMS[name](tmp_path / name)
    assert read(str(tmp_path / name), NEEDED, {}).equals(TABLE)


TEXTS = {
    "bools.csv": (b"user_id,item_id,score,label\na,x,.5,True\na,y,.25,False\n", "as pandas writes labels that are comparisons"),
    "capitals.csv": (b"user_id,item_id,score,label\na,x,.5,TRUE\na,y,.25,FALSE\n", "as R does"),
    "floats.csv": (b"user_id,item_id,score,label\na,x,5e-1,1.0\na,y,.25,0.0\n", "labels of a column that once had gaps"),
    "blanks.csv": (
        b"user_id, item_id, score, label\na,x, .5, 1\na,y, .25, 0\n\n\n",
        "blanks about names and numbers, empty lines at the end",
    ),
    "marked.csv": (
        b'\xef\xbb\xbf"user_id","item_id","score","label"\r\n"a","x","0.5","1"\r\n"a","y","0.25","0"\r\n',
        "as spreadsheets save",
    ),
    "quoted.tsv": (
        b'"user_id"\t"item_id"\t"score"\t"label"\n"a"\t"x"\t0.5\t1\n"a"\t"y"\t0.25\t0\n',
        "as R writes: cells that are quoted whole",
    ),
    "titles.tsv": (b'user_id\titem_id\tscore\tlabel\ttitle\na\tx\t.5\t1\t"T\na\ty\t.25\t0\tU"\n', "quotes are characters of titles"),
    "titles.inter": (
        b'user_id:token\titem_id:token\tscore:float\tlabel:float\tt:token_seq\na\tx\t.5\t1.0\t"T\na\ty\t.25\t0.0\tU\n',
        "here too",
    ),
    "packed.csv.gz": (gzip.compress(b"user_id,item_id,score,label\na,x,.5,1\na,y,.25,0\n"), "packed"),
    "packed.csv": (gzip.compress(b"user_id,item_id,score,label\na,x,.5,1\na,y,.25,0\n"), "whatever its name says"),
    "index.csv": (b",user_id,item_id,score,label,\n0,a,x,.5,1,\n,,,,,\n\n1,a,y,.25,0,\n", "columns without a name, rows without a cell"),
    "lines.csv": (b'user_id,item_id,score,label,t\na,x,.5,1,"one\ntwo, ""three"""\na,y,.25,0,\n', "a cell of two lines is one row"),
    "UPPER.CSV": (b"user_id,item_id,score,label\na,x,.5,1\na,y,.25,0\n", "endings have no case"),
    "bools.jsonl": (
        b'{"user_id":"a","item_id":"x","score":0.5,"label":true}\n\n{"label":false,"user_id":"a","item_id":"y","score":0.25}\n',
        "",
    ),
}


@pytest.mark.parametrize("name", TEXTS)
def test_forms_that_people_bring_read_as_the_same_two_rows(tmp_path, name):
    (tmp_path / name).write_bytes(TEXTS[name][0])
    assert read(str(tmp_path / name)).rows() == [("a", "x", 0.5, 1), ("a", "y", 0.25, 0)]


def test_ids_stay_as_they_are_written(tmp_path):
    ids = ["01", "1.0", "1e3", " u", "U", "none", "True", "2020-01-01", "\u00e9", 'a"b', "a,b", "#"]
    table = pl.DataFrame({"user_id": ids, "score": 0.5, "label": 1})
    for name, write in (("a.csv", table.write_csv), ("a.parquet", table.write_parquet), ("a.jsonl", table.write_ndjson)):
        write(tmp_path / name)
        assert read(str(tmp_path / name))["user_id"].to_list() == ids, name


HIDDEN = [
    ".ipynb_checkpoints/a-checkpoint.parquet",
    "_temporary/0/a.parquet",
    ".~lock/a.parquet",
    "deep/.cache/a.parquet",
    "._a.parquet",
    "_a.parquet",
    "a.parquet.bak",
]


@pytest.mark.parametrize("copy", HIDDEN)
def test_what_is_hidden_in_a_folder_is_no_part_of_it(tmp_path, copy):
    folder = tmp_path / ".scores"  # what the user names may be hidden
    for name in ("a.parquet", copy, "deep/b.parquet"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        TABLE.write_parquet(folder / name)
    assert [part.path for part in file_parts(str(folder), NEEDED, {})] == [f"{folder}/a.parquet", f"{folder}/deep/b.parquet"]
    shutil.copy(folder / copy, folder / "seen.parquet")
    assert len(file_parts(str(folder), NEEDED, {})) == 3  # the control


def test_columns_that_are_not_used_may_hold_anything(tmp_path):
    path = str(tmp_path / "train.csv")
    TABLE.with_columns(score=pl.lit("high"), label=pl.lit(5)).write_csv(path)
    parts = file_parts(path, ("user_id", "item_id"), {}, unused=("score", "label"))
    assert pl.concat(map(read_part, parts)).equals(TABLE.select("user_id", "item_id"))
    with pytest.raises(DataError, match="'score' holds 'high'"):
        read(path)


def test_columns_may_have_any_name(tmp_path):
    path = str(tmp_path / "scores.csv")
    TABLE.rename({"user_id": "who", "score": "model_a"}).with_columns(score=pl.lit("no number")).write_csv(path)
    named = {"user_id": "who", "score": "model_a", "item_id": "item"}
    assert read(path, NEEDED, named).equals(TABLE)  # item_id is not needed: its usual name will do
    for strict, wrong in ((True, {"score": "model_b"}), (False, {"user_id": "whom"})):
        with pytest.raises(DataError, match=r"(?s)no column '(model_b|whom)'; there are .*model_a.*--(score|user)"):
            read(path, NEEDED, named | wrong, strict)
    with pytest.raises(DataError, match="holds 'no number'"):  # the column called score
        read(path, NEEDED, named | {"score": "model_b"}, strict=False)


def test_parts_of_a_folder_hold_every_row_once_and_know_their_place(tmp_path, monkeypatch):
    monkeypatch.setattr(score_parts, "PART_ROWS", 10)
    TABLE.head(20).write_parquet(tmp_path / "a.parquet", row_group_size=6)
    TABLE.tail(10).write_parquet(tmp_path / "b.parquet")
    (tmp_path / "_SUCCESS").touch()
    parts = file_parts(str(tmp_path), NEEDED, {})
    assert [(part.first_row, part.row_groups) for part in parts] == [(0, (0, 1)), (12, (2, 3)), (0, (0,))]
    assert pl.concat([read_part(part) for part in parts]).equals(TABLE)
    assert read(str(tmp_path), NEEDED, {}).equals(TABLE)


def test_the_row_of_an_error_is_that_of_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(score_parts, "PART_ROWS", 5)
    broken = TABLE.with_columns(label=pl.when(pl.int_range(pl.len()) == 17).then(7).otherwise("label"))
    broken.write_parquet(tmp_path / "scores.parquet", row_group_size=5)
    with pytest.raises(DataError, match="row 18") as caught:
        read(str(tmp_path / "scores.parquet"), NEEDED, {})
    assert "'label' holds 7" in caught.value.what


BROKEN = {
    "label outside": (lambda t: t.with_columns(label=pl.when(pl.int_range(pl.len()) == 6).then(5).otherwise("label")), "'label'.*5.*row 7"),
    "label is text": (lambda t: t.with_columns(label=pl.lit("yes")), "'label'.*yes.*row 1"),
    "no label": (lambda t: t.with_columns(label=pl.lit(None, pl.Int8)), "'label'.*None.*30 such rows"),
    "score not a number": (lambda t: t.with_columns(score=pl.lit(float("nan"))), "'score'.*nan"),
    "score infinite": (lambda t: t.with_columns(score=pl.lit(float("inf"))), "'score'.*inf"),
    "score of lists": (lambda t: t.with_columns(score=pl.concat_list("score")), "'score' holds List"),
    "user of floats": (lambda t: t.with_columns(user_id=pl.lit(1.5)), "'user_id' holds Float64"),
    "user is null": (lambda t: t.with_columns(user_id=pl.lit(None, pl.String)), "'user_id' holds None"),
    "no score column": (lambda t: t.drop("score"), "no column 'score'.*--score"),
    "no user column": (lambda t: t.drop("user_id"), "no column 'user_id'.*--user"),
    "nothing known": (lambda t: t.select(other="score"), "no column 'user_id'; there are other"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_tables_are_named(tmp_path, case):
    spoil, message = BROKEN[case]
    path = str(tmp_path / "scores.parquet")
    spoil(TABLE).write_parquet(path)
    with pytest.raises(DataError, match=f"(?s){message}") as caught:
        read(path, NEEDED, {})
    assert path in caught.value.where


@pytest.mark.parametrize("name", ["scores.parquet", "scores.csv", "scores.jsonl"])
def test_files_that_are_not_tables(tmp_path, name):
    (tmp_path / name).write_bytes(b"" if name.endswith("csv") else b"{not parquet")
    with pytest.raises(DataError, match="the header line names no columns" if name.endswith("csv") else "cannot be read"):
        read(str(tmp_path / name), NEEDED, {})


def test_files_of_no_known_kind_or_that_are_not_there(tmp_path):
    (tmp_path / "scores.xlsx").touch()
    with pytest.raises(DataError, match=r"\.xlsx is not a known kind"):
        read(str(tmp_path / "scores.xlsx"), NEEDED, {})
    for path in (tmp_path / "none.parquet", tmp_path):
        with pytest.raises(MissingFileError, match="no such file"):
            read(str(path), NEEDED, {})


def test_files_of_a_folder_must_be_alike(tmp_path):
    TABLE.write_parquet(tmp_path / "a.parquet")
    TABLE.drop("item_id").write_parquet(tmp_path / "b.parquet")
    with pytest.raises(DataError, match="do not have the same columns"):
        read(str(tmp_path), NEEDED, {})
