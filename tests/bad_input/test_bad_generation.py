"""Engines that die, servers that err, prompts that are too long, catalogues that are empty: a clear error or a quarantined row."""

from __future__ import annotations

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from spoil import RUN, Case, nothing, table, until

from thinkrec.artefacts.ingest import ITEMS
from thinkrec.config import run as run_file
from thinkrec.errors import StageFailed
from thinkrec.generate.engines.protocol import EngineDied, GenResult
from thinkrec.generate.keywords import stage as keywords
from thinkrec.generate.rows.ledger import Ledger
from thinkrec.generate.rows.stream import Asker
from thinkrec.job import Job
from thinkrec.store.artefacts import Store

HTTP = ("engine.kind=http", "engine.http.url=http://127.0.0.1:9/v1", "engine.http.model=m")
SERVED = 'traces.teachers=[{name="m"}]'


def two(path: str = "given/base") -> str:
    return f'traces.teachers=[{{name="a",path="{path}"}},{{name="a",path="given/base",weight=2.0}}]'


CASES = {
    "two teachers of one name": Case(nothing, until("ingest", two()), r"two of traces\.teachers are called 'a'"),
    "two nano teachers": Case(
        nothing, until("ingest", 'traces.teachers=[{name="a",path="nano"},{name="b",path="nano"}]'), "the run teaches one"
    ),
    "no teacher": Case(nothing, until("ingest", "traces.teachers=[]"), r"traces\.teachers"),
    "a teacher without weight": Case(nothing, until("ingest", 'traces.teachers=[{name="a",path="nano",weight=0}]'), "greater than 0"),
    "a teacher with a key nobody knows": Case(
        nothing,
        until("ingest", 'traces.teachers=[{name="a",path="nano",wight=1.0}]'),
        r"traces\.teachers\.0\.wight: unknown key; did you mean",
    ),
    "a teacher without a folder": Case(nothing, until("ingest", SERVED), "has no folder"),
    "an extractor that is not there": Case(
        nothing, until("ingest", "keywords.source=engine", "keywords.extractor=nowhere", "traces.enabled=false"), "folder is not there"
    ),
    "a server without an address": Case(nothing, until("ingest", "engine.kind=http"), r"needs engine\.http\.url"),
    "an address that is none": Case(nothing, until("ingest", "engine.kind=http", "engine.http.url=server"), "not an http address"),
    "an address with a password": Case(
        nothing, until("ingest", "engine.kind=http", "engine.http.url=http://me:secret@x/v1"), "name the variable of the key"
    ),
    "more of a GPU than there is": Case(
        nothing,
        until("ingest", "engine.vllm.gpu_memory_utilization=1.5"),
        r"engine\.vllm\.gpu_memory_utilization: .*less than or equal to 1",
    ),
    "an adapter rank that vLLM has no kernels for": Case(nothing, until("ingest", "engine.vllm.max_lora_rank=12"), r"vllm\.max_lora_rank"),
    "a nano teacher behind a server": Case(nothing, until("ingest", *HTTP), "taught here"),
    "no model that reads keywords": Case(
        nothing, until("ingest", *HTTP[:2], SERVED, "keywords.source=engine"), "no model of the server is named for reading keywords"
    ),
    "a key in place of its variable": Case(nothing, until("ingest", "engine.http.key_variable=sk-123"), r"engine\.http\.key_variable"),
    "an empty catalogue": Case(table("items", lambda t: t.head(0)), until("ingest"), "item"),
    "raters who are not there": Case(nothing, ("traces", "agreement", "a.csv", "b.csv"), "sheet is not there"),
    "an audit before the traces": Case(nothing, ("traces", "audit", "run.toml"), "made no traces yet"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_cannot_be_generated_is_refused(refused, case):
    refused(case)


def test_a_password_is_not_repeated(command):
    assert "secret" not in command(*CASES["an address with a password"].words)[1]


class Mock:
    """An engine that reads one keyword out of a prompt, refuses long ones, and dies as often as it is told."""

    capabilities = frozenset()

    def __init__(self, num_deaths: int = 0, num_refused: int = 0) -> None:
        self.num_deaths, self.num_refused = num_deaths, num_refused

    def generate(self, requests):
        if self.num_deaths:
            self.num_deaths -= 1
            raise EngineDied
        return [self.answer(request) for request in requests]

    def answer(self, request):
        if len(request.prompt) > 10_000 or int(request.id) < self.num_refused:
            return GenResult(
                request.id, "", finish_reason="error", error=f"the prompt has {len(request.prompt)} letters, the engine takes 10000"
            )
        return GenResult(request.id, " noir")

    def close(self) -> None: ...


@pytest.fixture
def read_keywords(tmp_path, monkeypatch):
    """read_keywords(texts, engine) runs the stage over items with these texts; shards are answered in this process."""

    def run(texts, engine):
        def here(settings, use_gpu, ledger: Ledger, shards, ask, open_engine) -> None:
            asker = Asker(ledger, ask, lambda: engine, settings.max_error_share)
            for name in shards:
                asker.answer(name)

        monkeypatch.setattr("thinkrec.generate.rows.stream._run", here)
        config = run_file.parse({"engine": {"kind": "http", "http": {"url": "http://127.0.0.1:9/v1", "model": "m"}}})
        store = Store(str(tmp_path))
        rows = [{"item_id": str(n), "title": f"T{n}", "text": text, "categories": None} for n, text in enumerate(texts)]
        with store.create("ingest", "k", {}, {}) as draft:
            pq.write_table(pa.Table.from_pylist(rows, schema=ITEMS), draft.local() / "items.parquet")
        inputs = {"ingest": store.find("ingest", "k")}
        with store.create("keywords", "k", inputs, {}) as draft:
            keywords.run(Job(config, inputs, draft, store, "k", lambda event: None))
        return store.find("keywords", "k")

    return run


def tables(made):
    return pl.read_parquet(made.path("keywords.parquet")), pl.read_parquet(made.path("quarantine/keywords.parquet"))


def test_a_text_of_a_megabyte_costs_its_row(read_keywords):
    huge = "noir" * 2**18
    made = read_keywords(["a noir tale", huge, "noir again"], Mock())
    found, quarantined = tables(made)
    assert found["keywords"].to_list() == [["noir"], [], ["noir"]]
    (row,) = quarantined.iter_rows(named=True)
    assert (row["item_id"], row["keyword"]) == ("1", None)
    assert row["reason"].startswith("the prompt has 1048")
    assert made.figures["num_errors"] == 1


def test_many_words_are_cut_and_read(read_keywords):
    (words, quarantined) = tables(read_keywords(["noir " + "and so on " * 10**5], Mock()))
    assert words["keywords"].to_list() == [["noir"]]
    assert quarantined.is_empty()


def test_no_item_is_no_error(read_keywords):
    found, quarantined = tables(read_keywords([], Mock()))
    assert found.is_empty()
    assert quarantined.is_empty()


def test_an_engine_that_dies_is_opened_again(read_keywords):
    made = read_keywords(["a noir tale"] * 30, Mock(num_deaths=3))
    found, quarantined = tables(made)
    assert found["keywords"].list.len().to_list() == [1] * 30
    assert quarantined.is_empty()


def test_an_engine_that_only_dies_fails_the_stage_and_says_where(read_keywords):
    with pytest.raises(StageFailed, match="the engine died") as failed:
        read_keywords(["a noir tale"] * 30, Mock(num_deaths=10**6))
    assert failed.value.exit_code == RUN
    assert "run the same command again" in failed.value.fix


def test_an_engine_that_refuses_most_rows_fails_the_stage_and_keeps_nothing(read_keywords, tmp_path):
    with pytest.raises(StageFailed, match="20 of 30 rows got no answer"):
        read_keywords(["a noir tale"] * 30, Mock(num_refused=20))
    assert not list(tmp_path.glob("ledger/*/answers/*.json"))
    made = read_keywords(["a noir tale"] * 30, Mock())  # fixed
    assert made.figures["num_errors"] == 0
    assert made.figures["num_generated"] == 30
