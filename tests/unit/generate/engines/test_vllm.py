"""What can be said of the vLLM engine without vLLM, and (marked) how a real one dies, is opened again and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import time

import psutil
import pyarrow as pa
import pytest

from thinkrec.config.generation import EngineSection
from thinkrec.errors import ConfigError, EnvironmentFault, StageFailed
from thinkrec.generate.engines import vllm
from thinkrec.generate.engines.hf import HfEngine
from thinkrec.generate.engines.open import open_engine
from thinkrec.generate.engines.protocol import EngineDied, GenParams, GenRequest, GenResult
from thinkrec.generate.keywords.stage import KEYWORD_ANSWERS, Extract
from thinkrec.generate.rows import stream
from thinkrec.generate.rows.ledger import Ledger
from thinkrec.generate.rows.vllm_batch import ERROR, Gathering, Questions, told
from thinkrec.job import Job
from thinkrec.pipeline.checks import check_run
from thinkrec.store.artefacts import Store

VLLM = EngineSection(kind="vllm").vllm
ASK = Extract(8)


def test_where_it_is_not_installed_the_error_says_how_to_get_it(parrot, monkeypatch):
    monkeypatch.setattr(vllm, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentFault, match="not installed") as refused:
        open_engine(EngineSection(kind="vllm"), parrot)
    assert "thinkrec[gpu]" in refused.value.fix


def test_a_run_that_needs_it_says_so_before_it_starts(make_config, monkeypatch):
    monkeypatch.setattr(vllm, "find_spec", lambda name: None)
    idle = {"engine": {"kind": "vllm"}, "keywords": {"source": "categories"}, "traces": {"enabled": False}}
    check_run(make_config(idle))
    with pytest.raises(EnvironmentFault, match="not installed"):
        check_run(make_config(idle | {"traces": {"enabled": True}}))


def test_only_what_was_set_differs_from_vllms_own_defaults():
    told = vllm.arguments(VLLM, on_cpu=False)
    assert not {"max_model_len", "max_num_seqs", "kv_cache_memory_bytes", "enable_lora"} & set(told)
    assert told["enable_prefix_caching"]
    assert told["load_format"] == "safetensors"
    asked = VLLM.model_copy(update={"max_model_len": 512, "kv_cache_gib": 2.5, "max_loras": 3})
    told = vllm.arguments(asked, on_cpu=False)
    assert (told["max_model_len"], told["kv_cache_memory_bytes"], told["max_loras"]) == (512, 5 * 2**29, 3)
    assert vllm.arguments(asked, on_cpu=True)["max_loras"] == 4  # the last slot stays empty
    assert vllm.arguments(VLLM, on_cpu=True)["kv_cache_memory_bytes"] == 2**30


def test_every_parameter_of_a_request_is_told():
    params = GenParams(8, temperature=0.5, top_p=0.9, seed=3, n=2, stop=("\n",), regex="a+", score_tokens=(4, 5))
    assert vllm.sampling(GenRequest("r", "text", params), limit=6) == {
        "max_tokens": 6,
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 3,
        "n": 2,
        "stop": ["\n"],
        "structured_outputs": {"regex": "a+"},
        "logprob_token_ids": [4, 5],
    }


@pytest.fixture
def asked(tmp_path):
    """A ledger with ten rows waiting as two shards; rows 3 and 7 cannot be answered."""
    ledger = Ledger(str(tmp_path / "ledger"), KEYWORD_ANSWERS)
    prompts = ["" if n in (3, 7) else f"a dark tale {n}" for n in range(10)]
    rows = pa.table({"id": [str(n) for n in range(10)], "prompt": prompts})
    with ledger.deal(rows.to_batches(), 10) as parts:
        yield ledger, [ledger.ask(missing) for missing in ledger.missing(parts, 5)], parts


def rows_of(ledger, names, parrot):
    return Questions(ledger, ASK, parrot, max_tokens=0)({"shard": names}).to_pylist()


def as_ray_would(row):
    """What comes back of a row: one with an error as it is, any other with its id for an answer."""
    answer = {"generated_text": row["id"], "generated_tokens": [9, 9], "num_generated_tokens": 2}
    return row if row[ERROR] else told(row | answer) | {ERROR: ""}


def test_a_shard_is_committed_with_its_last_row_in_whatever_order_rows_come(asked, parrot):
    ledger, names, parts = asked
    rows = sorted(rows_of(ledger, names, parrot), key=lambda row: row["id"])
    assert {row["id"] for row in rows if row[ERROR]} == {"3", "7"}
    gathering = Gathering(ledger, ASK, max_error_share=0.5)
    for at, row in enumerate(rows):
        gathering.take([as_ray_would(row)])
        whole = {name for name in names if [seen["shard"] for seen in rows[: at + 1]].count(name) == 5}
        assert {name for name in names if ledger.has(name)} == whole
    (answers,) = ledger.answers(parts)
    assert answers["text"].to_pylist() == ["" if n in (3, 7) else str(n) for n in range(10)]
    assert [n for n, error in enumerate(answers["error"].to_pylist()) if error] == [3, 7]


def test_too_many_rows_without_an_answer_keep_the_shard_back(asked, parrot):
    ledger, names, _ = asked
    ill = {ERROR: "the engine is ill", "shard": names[0], "num_rows": 11}
    rows = [row | ill | {"id": str(n)} for n, row in enumerate([*rows_of(ledger, names, parrot), {}])]
    with pytest.raises(StageFailed, match="11 of 11 rows got no answer, among them: the engine is ill"):
        Gathering(ledger, ASK, max_error_share=0.5).take(rows)
    assert not any(map(ledger.has, names))


@pytest.mark.parametrize(
    ("ids", "text", "finish", "num_tokens"),
    [
        ([9, 9, 2], "text", "stop", 2),
        ([9, 9, 9], "text", "stop", 3),
        ([9, 9, 9, 9], "text", "length", 4),
        ([9, 9, 9, 2], "text", "stop", 3),
        ([9, 9, 9, 9], "text\n", "stop", 4),
    ],
)
def test_an_answer_that_fills_its_limit_was_cut_unless_it_shows_its_end(ids, text, finish, num_tokens):
    row = {"shard": "s", "num_rows": 1, "id": "r", "end_ids": [2], "sampling": '{"max_tokens": 4, "stop": ["\\n"]}'}
    result = told(row | {"generated_text": text, "generated_tokens": ids, "num_generated_tokens": len(ids)})
    assert (result["finish_reason"], result["num_tokens"], result["text"]) == (finish, num_tokens, "text")


def test_what_the_replicas_die_over_is_answered_by_actors(monkeypatch, make_config, tmp_path):
    """No Ray here: the first route answers all shards but one, and that one must come to the other."""
    rows = pa.table({"id": [str(n) for n in range(10)], "prompt": [f"tale {n}" for n in range(10)]})
    config = make_config({"engine": {"kind": "vllm", "shard_rows": 4}})
    taken = []

    def answer(ledger, names):
        for name in names:
            results = [GenResult(row, row) for row in ledger.asked(name)["id"].to_pylist()]
            ledger.commit(name, ledger.asked(name), pa.Table.from_pylist([ASK.answer(r) for r in results], schema=KEYWORD_ANSWERS), {})
            taken.append(name)

    def replicas(settings, use_gpu, ledger, shards, ask, folder):
        answer(ledger, shards[:-1])
        return shards[-1:]

    monkeypatch.setattr(stream.vllm_batch, "run", replicas)
    monkeypatch.setattr(stream, "_run", lambda settings, use_gpu, ledger, shards, *rest: answer(ledger, shards))
    store = Store(str(tmp_path))
    with store.create("made", "k", {}, {}) as draft:
        job = Job(config, {}, draft, store, "k", lambda event: None)
        answers = stream.stream(job, "made", {}, rows, ASK, KEYWORD_ANSWERS, open_engine, "model")
    assert sorted(answers["text"].to_pylist()) == rows["id"].to_pylist()
    assert len(taken) == len(set(taken)) == 3


def children():
    """The living processes below this one; Python's own tracker of resources stays."""
    living = [one for one in psutil.Process().children(recursive=True) if one.status() != psutil.STATUS_ZOMBIE]
    return [process for process in living if "resource_tracker" not in " ".join(process.cmdline())]


@pytest.mark.vllm
def test_an_engine_whose_process_is_killed_says_so_and_can_be_opened_again(vllm_settings, parrot):
    before = set(children())
    engine = open_engine(vllm_settings, parrot)
    asked = [GenRequest("r", "a dark tale", GenParams(4))]
    assert engine.generate(asked)[0].text == " noir"
    for process in set(children()) - before:
        os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(EngineDied):
        engine.generate(asked)
    engine.close()
    with pytest.raises(EngineDied):  # and does not wait for ever
        engine.generate(asked)
    engine = open_engine(vllm_settings, parrot)
    assert engine.generate(asked) == HfEngine(parrot, 4).generate(asked)
    assert set(children()) - before
    engine.close()
    deadline = time.monotonic() + 30
    while set(children()) - before and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not set(children()) - before


@pytest.mark.vllm
def test_a_setting_that_vllm_cannot_take_is_the_users_to_mend(vllm_settings, parrot):
    longer = vllm_settings.model_copy(update={"vllm": vllm_settings.vllm.model_copy(update={"max_model_len": 10**6})})
    with pytest.raises(ConfigError, match="vLLM refuses the model or its settings"):
        open_engine(longer, parrot)
