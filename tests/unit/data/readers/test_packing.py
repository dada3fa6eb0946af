"""What a file is by its first bytes, and what lies in archives."""

import io
import tarfile
import zipfile

import pytest

from thinkrec.data.readers.files import ending_in, find, lines, single
from thinkrec.data.readers.packing import FOREIGN
from thinkrec.errors import DataError, MissingFileError

TEXT = b"one\ntwo\n"


def tar(mode="w", **members):
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode=mode) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return made.getvalue()


def put(path, content):
    path.write_bytes(content)
    return str(path)


def zipped(path, **members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return str(path)


def read(file):
    return [line for _, line in lines(file)]


@pytest.mark.parametrize("begins", FOREIGN)
def test_what_is_no_text_is_refused_by_its_name(tmp_path, begins):
    what, fix = FOREIGN[begins]
    path = put(tmp_path / "log.csv", begins + b"\n\x01 rest of it")
    with pytest.raises(DataError, match="this is ") as caught:
        read(single(path) if not begins.startswith(b"PK") else ending_in(str(tmp_path), ".csv")[0])
    assert (caught.value.what, caught.value.fix) == (f"this is {what}", fix)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le"])
def test_wide_text_without_a_mark_is_refused_too(tmp_path, encoding):
    with pytest.raises(DataError, match="full of NUL bytes"):
        read(single(put(tmp_path / "log.csv", "user_id,item_id\n".encode(encoding))))


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path):
    assert read(single(put(tmp_path / "log.csv", b"\xef\xbb\xbf" + TEXT))) == [b"one", b"two"]
    assert read(single(put(tmp_path / "mark.csv", b"\xef\xbb\xbf"))) == []


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_tar_reads_like_a_folder(tmp_path, mode):
    path = put(tmp_path / "any", tar(mode, **{"./data/a.csv": TEXT, "data/._a.csv": b"\0", "data/b.txt": b"no"}))
    assert read(find(path, "a.csv")) == [b"one", b"two"]
    assert [read(file) for file in ending_in(path, ".csv")] == [[b"one", b"two"]]
    with pytest.raises(MissingFileError, match=r"c\.csv is not in the archive; there are \./data/a\.csv, data/b\.txt"):
        find(path, "c.csv")


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_inside_a_zip_is_opened(tmp_path, mode):
    path = zipped(tmp_path / "a.zip", **{"Yelp JSON/inner.tar": tar(mode, **{"a.json": TEXT}), "__MACOSX/._inner.tar": b"\0"})
    assert read(find(path, "a.json")) == [b"one", b"two"]


def test_a_tar_whose_members_climb_or_that_is_cut_short_is_refused(tmp_path):
    with pytest.raises(DataError, match="climbs out"):
        find(put(tmp_path / "a.tar", tar(**{"../a.csv": TEXT})), "a.csv")
    with pytest.raises(DataError, match="tar archive cannot be read"):
        find(zipped(tmp_path / "a.zip", **{"a.tar": tar(**{"a.csv": TEXT * 1000})[:2000]}), "a.csv")


def test_an_archive_of_one_file_is_that_file(tmp_path):
    assert read(single(zipped(tmp_path / "a.zip", **{"in/log.csv": TEXT, "in/.DS_Store": b"\0"}))) == [b"one", b"two"]
    with pytest.raises(MissingFileError, match="this archive holds 2 files; one is needed: a, b"):
        single(zipped(tmp_path / "two.zip", a=TEXT, b=TEXT))


def test_a_spreadsheet_is_called_one(tmp_path):
    with pytest.raises(DataError, match="spreadsheet"):
        single(zipped(tmp_path / "log.xlsx", **{"[Content_Types].xml": "", "xl/workbook.xml": ""}))


@pytest.mark.parametrize("name", ["._log.csv", ".log.csv.csv", "_log.csv", "~log.txt", "Thumbs.db"])
def test_files_of_programs_are_left_alone(tmp_path, name):
    put(tmp_path / "b.csv", TEXT)
    put(tmp_path / "A.CSV", TEXT)
    put(tmp_path / name, b"\0\0")
    assert [file.name.rpartition("/")[2] for file in ending_in(str(tmp_path), ".csv")] == ["A.CSV", "b.csv"]
