"""MovieLens files as GroupLens writes them, in a folder and in a zip archive."""

import zipfile
from pathlib import Path

import pytest

from thinkrec.config.data import DataSection
from thinkrec.data.readers.files import single
from thinkrec.data.readers.movielens import has_half_stars, read_1m, read_10m, read_csv
from thinkrec.data.readers.source import Tables, collect
from thinkrec.errors import DataError, MissingFileError

RATINGS = "1::1193::5::978300760\n1::661::3::978302109\n2::1193::4::978298413\n"
MOVIES = "661::James and the Giant Peach (1996)::Animation|Children's|Musical\n1193::Mis\xe9rables: The \x85 Film, Les (1975)::Drama\n"


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "ratings.dat").write_bytes(RATINGS.encode("latin-1"))
    (tmp_path / "movies.dat").write_bytes(MOVIES.encode("latin-1"))
    (tmp_path / "users.dat").write_bytes(b"1::F::1::10::48067\n")
    return tmp_path


def settings(path: Path) -> DataSection:
    return DataSection(source="movielens1m", path=str(path))


def read(settings: DataSection) -> Tables:
    return collect(read_1m(settings))


def test_reads_rows_in_milliseconds_and_titles_in_latin_1(folder):
    tables = read(settings(folder))
    first = {"row": 1, "user_id": "1", "item_id": "1193", "rating": 5.0, "ts": 978300760000}
    assert tables.interactions.to_pylist()[0] == first
    assert tables.interactions.num_rows == 3
    assert tables.items.to_pylist() == [
        {"item_id": "661", "title": "James and the Giant Peach (1996)", "text": None, "categories": ["Animation", "Children's", "Musical"]},
        {"item_id": "1193", "title": "Mis\xe9rables: The \u2026 Film, Les (1975)", "text": None, "categories": ["Drama"]},
    ]
    assert tables.quarantine.num_rows == 0


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "latin-1"])
def test_titles_are_the_same_in_every_encoding_they_were_saved_in(folder, encoding):
    (folder / "movies.dat").write_bytes("1::Mis\xe9rables, Les (1995)::Drama\n2::\xc0 bout (1960)::Drama\n".encode(encoding))
    tables = read(settings(folder))
    assert tables.items["title"].to_pylist() == ["Mis\xe9rables, Les (1995)", "\xc0 bout (1960)"]
    assert tables.quarantine.num_rows == 0


def test_a_title_in_no_encoding_known_is_refused_not_garbled(folder):
    (folder / "movies.dat").write_bytes(b"1::Mis\xe9rables (1995)::Drama\n2::\x81\x8d (1960)::Drama\n")
    tables = read(settings(folder))
    assert tables.items["item_id"].to_pylist() == ["1"]
    assert tables.quarantine["row"].to_pylist() == [2]


def test_the_archive_reads_like_the_folder(folder):
    archive = folder / "ml-1m.zip"
    with zipfile.ZipFile(archive, "w") as target:
        for name in ("ratings.dat", "movies.dat"):
            target.write(folder / name, f"ml-1m/{name}")
    zipped, unzipped = read(settings(archive)), read(settings(folder))
    assert zipped.interactions == unzipped.interactions
    assert zipped.items == unzipped.items


def test_windows_line_ends_change_nothing(folder):
    before = read(settings(folder)).interactions
    (folder / "ratings.dat").write_bytes(RATINGS.replace("\n", "\r\n").encode("latin-1"))
    assert read(settings(folder)).interactions == before


@pytest.mark.parametrize(
    "line", ["1,661,3,978302109", "1::661::6::978302109", "1::661::3", "", "1::661::3::yesterday", "x::661::3::978302109"]
)
def test_a_line_of_another_form_is_refused_with_its_number(folder, line):
    (folder / "ratings.dat").write_bytes(f"{line}\n{RATINGS}".encode("latin-1"))
    tables = read(settings(folder))
    assert tables.interactions["row"].to_pylist() == [2, 3, 4]
    reason = "not UserID::MovieID::Rating::Timestamp, with whole stars (half stars: data.source = movielens10m)"
    assert tables.quarantine.to_pylist() == [{"source": "ratings.dat", "row": 1, "reason": reason, "content": line}]


def test_missing_files_are_named(folder, tmp_path):
    with pytest.raises(MissingFileError, match="no such file"):
        read(settings(tmp_path / "nowhere"))
    (folder / "movies.dat").unlink()
    with pytest.raises(MissingFileError, match=r"movies\.dat"):
        read(settings(folder))
    with zipfile.ZipFile(folder / "half.zip", "w") as target:
        target.writestr("ml-1m/ratings.dat", RATINGS)
    with pytest.raises(MissingFileError, match=r"movies\.dat"):
        read(settings(folder / "half.zip"))


def test_a_file_that_is_no_archive_is_refused(folder):
    with pytest.raises(DataError, match="zip archive cannot be read"):
        read(settings(folder / "ratings.dat"))


def test_10m_has_half_stars_utf_8_titles_and_no_users(folder):
    (folder / "users.dat").unlink()
    log = "1::122::5::838985046\n1::185::0.5::838983525\n2::185::4.5::838983526\n2::122::5.5::1\n2::122::0::1\n2::122::3.2::1\n"
    (folder / "ratings.dat").write_text(log)
    movies = "122::Boomerang (1992)::Comedy|Romance\n185::Mis\xe9rables: Les (1995)::(no genres listed)\n"
    (folder / "movies.dat").write_text(movies, encoding="utf-8")
    tables = collect(read_10m(DataSection(source="movielens10m", path=str(folder))))
    assert tables.interactions["rating"].to_pylist() == [5.0, 0.5, 4.5]
    assert tables.interactions.to_pylist()[1] == {"row": 2, "user_id": "1", "item_id": "185", "rating": 0.5, "ts": 838983525000}
    assert tables.items["title"].to_pylist() == ["Boomerang (1992)", "Mis\xe9rables: Les (1995)"]
    assert tables.items["categories"].to_pylist() == [["Comedy", "Romance"], None]
    scale, form = "rating is not between 0.5 and 5", "not UserID::MovieID::Rating::Timestamp"
    assert {(row["row"], row["reason"]) for row in tables.quarantine.to_pylist()} == {(4, scale), (5, scale), (6, form)}


def test_whole_stars_are_read_alike_as_1m_and_10m_and_half_stars_tell_10m(folder):
    ten = collect(read_10m(DataSection(source="movielens10m", path=str(folder))))
    assert ten.interactions == read(settings(folder)).interactions
    ratings = folder / "ratings.dat"
    assert not has_half_stars(single(str(ratings)))
    ratings.write_text(f"{RATINGS}2::661::3.5::978298414\n")
    assert has_half_stars(single(str(ratings)))
    assert read(settings(folder)).quarantine["reason"].to_pylist()[0].endswith("(half stars: data.source = movielens10m)")


def test_the_csv_family_has_half_stars_quoted_titles_and_no_genres(tmp_path):
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,2,0.5,1112486027\n1,3,5.5,1112486028\n1,2\n")
    (tmp_path / "movies.csv").write_text(
        'movieId,title,genres\n2,"American President, The (1995)",Comedy|Drama\n3,Miserables (1995),(no genres listed)\n', encoding="utf-8"
    )
    tables = collect(read_csv(DataSection(source="movielens_csv", path=str(tmp_path))))
    row = {"row": 2, "user_id": "1", "item_id": "2", "ts": 1112486027000, "rating": 0.5}
    assert tables.interactions.to_pylist() == [row]
    assert tables.items["title"].to_pylist() == ["American President, The (1995)", "Miserables (1995)"]
    assert tables.items["categories"].to_pylist() == [["Comedy", "Drama"], None]
    assert {(row["row"], row["reason"]) for row in tables.quarantine.to_pylist()} == {
        (3, "rating is not between 0.5 and 5"),
        (4, "not 4 fields, as the header has"),
    }


def test_a_csv_without_a_column_is_refused(tmp_path):
    (tmp_path / "ratings.csv").write_text("userId,movieId,timestamp\n1,2,1112486027\n")
    (tmp_path / "movies.csv").write_text("movieId,title,genres\n")
    with pytest.raises(DataError, match="'rating' is missing; there are userId, movieId, timestamp"):
        read_csv(DataSection(source="movielens_csv", path=str(tmp_path)))
