"""The ledger: nothing is lost, nothing is there twice, and what is there is not asked again, whatever was killed in between."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from crash import SCHEMA, rows_of, work

from thinkrec.errors import ArtefactError, StageFailed
from thinkrec.generate.rows.ledger import Ledger, Part, check_complete, key_of

ROOT = Path(__file__).parents[4]


def log_of(folder: Path) -> list[str]:
    return (folder / "log").read_text().split() if (folder / "log").is_file() else []


def crash(folder: Path, *words: int) -> int:
    """The number of kills that `crash.py` needed."""
    command = [sys.executable, str(Path(__file__).parents[3] / "shared" / "crash.py"), str(folder), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_every_row_is_asked_once(tmp_path):
    rows = rows_of(103)
    answers = work(tmp_path, rows, 10)
    assert sorted(answers["id"].to_pylist(), key=int) == rows["id"].to_pylist()
    assert Counter(log_of(tmp_path)) == Counter(rows["id"].to_pylist())
    assert len(Ledger(str(tmp_path / "ledger"), SCHEMA).shards()) == 11
    again = work(tmp_path, rows, 10)
    assert again.equals(answers)
    assert len(log_of(tmp_path)) == 103


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(2, 5))])
def test_kills_lose_nothing_double_nothing_and_repeat_at_most_a_shard_each(tmp_path, seed):
    num_rows, shard_rows = 300, 20
    num_kills = crash(tmp_path, seed, num_rows, shard_rows, 40)
    assert num_kills > 5
    asked = Counter(log_of(tmp_path))
    assert set(asked) == {str(n) for n in range(num_rows)}
    assert 0 < sum(asked.values()) - num_rows <= num_kills * shard_rows
    before = len(log_of(tmp_path))
    answers = work(tmp_path, rows_of(num_rows), shard_rows)
    assert len(log_of(tmp_path)) == before
    assert dict(zip(*(answers[name].to_pylist() for name in ("id", "text")), strict=True)) == {
        str(n): f"prompt {n}"[::-1] for n in range(num_rows)
    }


def test_a_row_that_kills_the_process_costs_that_row(tmp_path):
    num_kills = crash(tmp_path, 0, 60, 30, 0, 17)
    assert num_kills <= 8  # 30 rows are halved five times, and the last one gets a second chance
    answers = work(tmp_path, rows_of(60, frozenset({17})), 30)
    errors = {row["id"]: row["error"] for row in answers.to_pylist() if row["error"]}
    assert errors == {"17": "the engine died twice over this row alone"}
    assert sorted(answers["id"].to_pylist(), key=int) == [str(n) for n in range(60)]


def test_a_grown_input_asks_for_what_is_new(tmp_path):
    work(tmp_path, rows_of(100), 8)
    grown = rows_of(140).slice(20).take(pa.array(range(119, -1, -1)))  # some are gone, others new, all in another order
    answers = work(tmp_path, grown, 32)  # and in shards of another size
    assert Counter(log_of(tmp_path)) == Counter(str(n) for n in range(140))
    assert sorted(answers["id"].to_pylist(), key=int) == [str(n) for n in range(20, 140)]


def test_a_changed_row_is_another_row(tmp_path):
    work(tmp_path, rows_of(10), 4)
    changed = rows_of(10).to_pylist()
    changed[3]["prompt"] = "another"
    answers = {row["id"]: row["text"] for row in work(tmp_path, pa.Table.from_pylist(changed), 4).to_pylist()}
    assert answers["3"] == "rehtona"
    assert log_of(tmp_path)[10:] == ["3"]


def test_two_shards_that_answer_one_row_count_once(tmp_path):
    """A worker that was thought dead may commit after its row was dealt to another shard."""
    ledger = Ledger(str(tmp_path), SCHEMA)
    answer = pa.table({"id": ["7"], "text": ["first"], "error": [""]}, schema=SCHEMA)
    row = {"id": "7", "prompt": "prompt 7"}
    asked = pa.table({**{name: [value] for name, value in row.items()}, "key": [key_of(row)]})
    for name in ("0000-ffff-a", "0000-ffff-b"):
        ledger.commit(name, asked, answer, {})
    with ledger.deal(asked.drop_columns(["key"]).to_batches(), 1) as parts:
        assert [table["text"].to_pylist() for table in ledger.answers(parts)] == [["first"]]
        assert list(ledger.missing(parts, 4)) == []


def test_answers_without_a_manifest_do_not_exist(tmp_path):
    rows = rows_of(8)
    work(tmp_path, rows, 8)
    (manifest,) = (tmp_path / "ledger/answers").glob("*.json")
    manifest.unlink()
    work(tmp_path, rows, 8)
    assert len(log_of(tmp_path)) == 16


@pytest.mark.parametrize(
    ("damage", "what"),
    [(lambda whole: whole[:40], "cannot be read"), (lambda whole: whole[:20] + bytes([whole[20] ^ 1]) + whole[21:], "has changed")],
)
def test_a_damaged_shard_is_named(tmp_path, damage, what):
    work(tmp_path, rows_of(8), 8)
    (file,) = (tmp_path / "ledger/answers").glob("*.parquet")
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ArtefactError, match=what) as refused:
        work(tmp_path, rows_of(8), 8)
    assert file.name in refused.value.where


def test_an_empty_input_is_no_work(tmp_path):
    assert work(tmp_path, rows_of(0), 8).num_rows == 0


def test_parts_cut_the_keys_without_gap(tmp_path, monkeypatch):
    monkeypatch.setattr("thinkrec.generate.rows.ledger.PART_ROWS", 9)
    rows = rows_of(200)
    assert work(tmp_path, rows, 16).num_rows == 200
    assert work(tmp_path, rows, 16).num_rows == 200
    assert len(log_of(tmp_path)) == 200
    with Ledger(str(tmp_path), SCHEMA).deal(rows.to_batches(), 200) as parts:
        assert len(parts) > 15
        found = [int(key[:4], 16) for part in parts for key in part.rows()["key"].to_pylist()]
        assert found == sorted(found)
        assert len(found) == 200
        assert all(isinstance(part, Part) and part.begin <= part.end for part in parts)


ASKED = pa.table({"id": ["a", "b", "c"]})


def test_complete_answers_come_back_in_order():
    answers = pa.table({"id": ["c", "a", "b", "a"], "attempt": [0, 1, 0, 0]})
    assert check_complete(ASKED, answers, "here").to_pydict() == {"id": ["a", "a", "b", "c"], "attempt": [0, 1, 0, 0]}


@pytest.mark.parametrize(
    ("ids", "attempts", "what"),
    [
        (["a", "b"], [0, 0], "1 of 3 rows have no answer"),
        (["a", "b", "c", "d"], [0, 0, 0, 0], "1 answers no row"),
        (["a", "b", "c", "c"], [0, 0, 1, 1], "written twice"),
    ],
)
def test_lost_foreign_and_double_answers_fail_the_stage(ids, attempts, what):
    with pytest.raises(StageFailed, match=what):
        check_complete(ASKED, pa.table({"id": ids, "attempt": attempts}), "here")


def test_questions_of_one_id_fail_the_stage():
    with pytest.raises(StageFailed):
        check_complete(pa.table({"id": ["a", "a"]}), pa.table({"id": ["a"]}), "here")
    with (
        pytest.raises(StageFailed, match="asked about twice"),
        Ledger("x", SCHEMA).deal(pa.table({"id": ["a", "a"]}).to_batches(), 2) as parts,
    ):
        parts[0].rows()
