"""Opening the user's files: packed, torn, and archives that no honest hand has made."""

import bz2
import gzip
import lzma
import stat
import zipfile

import pytest

from thinkrec.data.readers import archives, files
from thinkrec.errors import DataError, MissingFileError

TEXT = b"one\r\ntwo\n\nfour"


def written(path, content):
    path.write_bytes(content)
    return str(path)


@pytest.mark.parametrize(("ending", "pack"), [("", bytes), (".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)])
def test_packed_or_not_the_lines_are_the_same(tmp_path, ending, pack):
    (tmp_path / f"log.txt{ending}").write_bytes(pack(TEXT))
    expected = [(1, b"one"), (2, b"two"), (3, b""), (4, b"four")]
    assert list(files.lines(files.find(str(tmp_path), "log.txt"))) == expected
    assert list(files.lines(files.single(f"file://{tmp_path}/log.txt{ending}"))) == expected


def test_a_file_cut_short_is_an_error_with_its_line(tmp_path):
    whole = gzip.compress(b"".join(b"%d\n" % (n * 7919) for n in range(100_000)))
    (tmp_path / "log.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cannot be read beyond line [1-9]"):
        list(files.lines(files.single(str(tmp_path / "log.gz"))))


def test_a_file_is_read_as_what_it_is_whatever_its_name_says(tmp_path):
    """A browser unpacks a .gz and keeps its name."""
    expected = [line for _, line in files.lines(files.single(written(tmp_path / "log", TEXT)))]
    for name, content in (
        ("log.gz", TEXT),
        ("log.csv", gzip.compress(TEXT)),
        ("log.txt", lzma.compress(TEXT)),
        ("a.bz2", bz2.compress(TEXT)),
    ):
        assert [line for _, line in files.lines(files.single(written(tmp_path / name, content)))] == expected


def test_a_line_without_end_does_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_LINE_BYTES", 10)
    (tmp_path / "log").write_bytes(b"short\n" + b"x" * 11)
    with pytest.raises(DataError, match="line 2 is longer than 10 bytes"):
        list(files.lines(files.single(str(tmp_path / "log"))))


@pytest.mark.parametrize("name", ["../log.txt", "a/../../log.txt", "/log.txt", "a\\..\\..\\log.txt"])
def test_an_archive_whose_members_climb_is_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("log.txt", TEXT)
        archive.writestr(name, TEXT)
    with pytest.raises(DataError, match="climbs out of its folder"):
        files.find(str(tmp_path / "a.zip"), "log.txt")


def test_an_archive_with_a_link_is_refused(tmp_path):
    link = zipfile.ZipInfo("log.txt")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/hostname")
    with pytest.raises(DataError, match="symbolic link"):
        files.find(str(tmp_path / "a.zip"), "log.txt")


def test_a_name_that_stands_twice_in_an_archive_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a/log.txt", TEXT)
        archive.writestr("b/log.txt", TEXT)
    with pytest.raises(MissingFileError, match="2 times"):
        files.find(str(tmp_path / "a.zip"), "log.txt")


def test_an_archive_that_unpacks_to_far_more_than_text_does_is_refused(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("log.txt", b"0" * 2**20)
    with pytest.raises(DataError, match="would unpack to 1048576 bytes"):
        files.find(str(tmp_path / "a.zip"), "log.txt")
    monkeypatch.setattr(archives, "MAX_UNPACKING", 2000)
    assert len(next(files.lines(files.find(str(tmp_path / "a.zip"), "log.txt")))[1]) == 2**20


def test_a_member_whose_bytes_have_changed_is_an_error(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("log.txt", b"hello world\n")
    torn = (tmp_path / "a.zip").read_bytes().replace(b"hello world", b"hellO world", 1)
    (tmp_path / "a.zip").write_bytes(torn)
    with pytest.raises(DataError, match="CRC"):
        list(files.lines(files.find(str(tmp_path / "a.zip"), "log.txt")))


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(MissingFileError, match="no such file"):
        files.single(str(tmp_path / "nowhere"))
    with pytest.raises(MissingFileError, match="this is a folder"):
        files.single(str(tmp_path))
