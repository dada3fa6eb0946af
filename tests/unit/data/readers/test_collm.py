"""CoLLM's pickles: the frames they publish are read, and nothing else is."""

import json
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from thinkrec.cli.main import main
from thinkrec.config.data import DataSection
from thinkrec.data.readers import canonical, collm
from thinkrec.data.readers.source import collect
from thinkrec.errors import DataError, MissingFileError

SPLITS = ("train", "valid", "test")


def frame(n: int, titles: bool = True) -> pd.DataFrame:
    """One row as CoLLM writes it: object columns of Python and numpy values, as pandas before 3 had them."""
    columns = {"uid": np.array([7]), "iid": np.array([n + 1]), "label": np.array([n % 2]), "timestamp": np.array([1_000_000_000 + n])}
    columns["his"] = np.array([None], dtype=object)
    columns["his"][0] = [0, 1] if titles else np.array([0, 1])
    if titles:
        columns["title"] = np.array([np.str_(f"Film {n}")], dtype=object)
    columns["flag"] = np.array([-1.0])
    made = pd.DataFrame({name: pd.Series(values, dtype=values.dtype) for name, values in columns.items()})
    made.columns = pd.Index(list(columns), dtype=object)
    return made


@pytest.fixture(params=[2, 4, 5], ids="protocol {}".format)
def folder(tmp_path, request) -> Path:
    for n, name in enumerate(SPLITS):
        (tmp_path / f"{name}_ood2.pkl").write_bytes(pickle.dumps(frame(n), protocol=request.param))
    return tmp_path


def test_rows_titles_and_splits_come_through(folder):
    tables = collect(collm.read(str(folder)))
    assert tables.interactions.to_pylist() == [
        {"row": n << 40, "user_id": "7", "item_id": str(n + 1), "ts": (1_000_000_000 + n) * 1000, "label": n % 2, "split": name}
        for n, name in enumerate(SPLITS)
    ]
    assert tables.items["title"].to_pylist() == ["Film 0", "Film 1", "Film 2"]


def test_the_command_writes_what_the_canonical_reader_reads(folder, tmp_path, capsys):
    with zipfile.ZipFile(folder / "x.zip", "w") as archive:
        for name in SPLITS:
            archive.write(folder / f"{name}_ood2.pkl", f"ml-1m/{name}_ood2.pkl")
    with pytest.raises(SystemExit) as done:
        main(["data", "import-collm", "--in", str(folder / "x.zip"), "--out", str(folder / "out")])
    assert done.value.code == 0
    assert json.loads(capsys.readouterr().out) == {"interactions": 3, "items": 3, "refused": 0}
    back, direct = collect(canonical.read(DataSection(source="canonical", path=str(folder / "out")))), collect(collm.read(str(folder)))
    columns = [name for name in direct.interactions.column_names if name != "row"]  # three files become one
    assert back.interactions.select(columns) == direct.interactions.select(columns)
    assert back.items == direct.items == pq.read_table(folder / "out/items.parquet")


def test_thinkrec_keeps_its_titles_apart(tmp_path):
    for n, name in enumerate(SPLITS):
        (tmp_path / f"{name}_ood2.pkl").write_bytes(pickle.dumps(frame(n, titles=False)))
    with pytest.raises(MissingFileError, match="id2title"):
        collm.read(str(tmp_path))
    (tmp_path / "id2title.json").write_text(json.dumps({"1": {"title": "One", "description": "About one"}, "2": {"title": "Two"}}))
    items = collect(collm.read(str(tmp_path))).items
    assert items["title"].to_pylist() == ["One", "Two", None]
    assert items["text"].to_pylist() == ["About one", None, None]


class Evil:
    """Calls `function(*given)` as it is loaded."""

    def __init__(self, function, *given):
        self.call = (function, given)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("function", "given", "named"),
    [
        (os.system, ("touch {mark}",), "posix.system"),
        (eval, ("open('{mark}', 'w')",), "builtins.eval"),
        (getattr, ("", "join"), "builtins.getattr"),
        (pd.read_pickle, ("{mark}",), "pandas.io.pickle.read_pickle|pandas.read_pickle"),
        (np.load, ("{mark}",), "numpy.load"),
        (np.ndarray.tofile, (np.zeros(1), "{mark}"), "builtins.getattr"),
    ],
)
def test_an_evil_pickle_is_refused_by_name_and_does_nothing(tmp_path, function, given, named):
    mark = tmp_path / "mark"
    evil = Evil(function, *(value.format(mark=mark) if isinstance(value, str) else value for value in given))
    path = tmp_path / "train_ood2.pkl"
    path.write_bytes(pickle.dumps(evil, protocol=2) if function is not np.ndarray.tofile else pickle.dumps(evil))
    with pytest.raises(DataError, match="the pickle asks for") as caught:
        collm.load(collm.find(str(tmp_path), path.name))
    assert not mark.exists()
    assert caught.value.where.endswith("train_ood2.pkl")
    asked = caught.value.what.split("asks for ")[1].split(",")[0]
    assert asked.replace("__builtin__", "builtins") in named.split("|")


def test_the_evil_pickle_would_have_done_it(tmp_path):
    mark = tmp_path / "mark"
    pickle.loads(pickle.dumps(Evil(os.system, f"touch {mark}")))
    assert mark.exists()


def test_a_dotted_name_opens_no_back_door(tmp_path):
    """Protocol 4 follows dots: an allowed module and a name that walks out of it."""
    path = tmp_path / "train_ood2.pkl"
    path.write_bytes(b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__init__\x93.")
    with pytest.raises(DataError, match=r"numpy\.ndarray\.__init__"):
        collm.load(collm.find(str(tmp_path), path.name))


@pytest.mark.parametrize("content", [b"", b"not a pickle", pickle.dumps([1]), pickle.dumps(frame(0))[:-20]])
def test_what_is_no_frame_is_refused(tmp_path, content):
    (tmp_path / "train_ood2.pkl").write_bytes(content)
    with pytest.raises(DataError):
        collm.load(collm.find(str(tmp_path), "train_ood2.pkl"))


def test_a_frame_without_a_column_is_refused(tmp_path):
    made = frame(0)
    made = made[[name for name in made.columns if name != "label"]]
    (tmp_path / "train_ood2.pkl").write_bytes(pickle.dumps(made))
    with pytest.raises(DataError, match="'label' is missing"):
        collm.load(collm.find(str(tmp_path), "train_ood2.pkl"))
