"""Training rows: kind and weights are columns of each row (D22), the verdict is found, traces go to their own row."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from learned import instances_of

from thinkrec.config import run as run_file
from thinkrec.config.model import NanoSection, PromptSection
from thinkrec.data.interactions import Interactions
from thinkrec.instances.records import Trace
from thinkrec.instances.stage import accepted, traces_of
from thinkrec.nano import model as nano
from thinkrec.nano.stage import spoken, windows
from thinkrec.prompt.catalogue import ArtefactPaths, PromptData
from thinkrec.prompt.template import ItemText, Template, fixed_phrases
from thinkrec.train.instances import step_batches

TITLES = ["Alpha", "Beta", "Gamma"]
SPLIT = np.array([0, 0, 1, 0, 0, 2], np.int8)
TRAIN = np.flatnonzero(SPLIT == 0)
LABEL = np.array([1, 0, 1, 0, 1, 1], np.int8)
LOSS = {"trace_rec": 0.1, "trace_think": 0.9, "plain_rec": 0.8, "plain_think": 0.2}


@pytest.fixture
def make(request):
    """make(tree, traces) -> (instances, tables) over two users with three rows each; train rows are 0, 1, 3 and 4."""

    def build(tree=None, traces=(), offsets=False):
        config = run_file.parse({"prompt": {"priors": False}, "train": {"loss": LOSS}} | (tree or {}))
        texts = [*TITLES, " because of noir"]
        tokenizer = nano.make_tokenizer(texts, fixed_phrases(PromptSection()), NanoSection(vocab_size=400))
        data = Interactions(
            user=np.repeat(np.arange(2, dtype=np.int32), 3),
            item=np.array([0, 1, 2, 2, 1, 0], np.int32),
            label=LABEL,
            ts=np.arange(6),
            row=np.arange(100, 106),
            split=SPLIT,
            offsets=np.array([0, 3, 6]),
            user_ids=["u", "v"],
            item_ids=["a", "b", "c"],
            item_in_train=np.ones(3, bool),
        )
        tables = PromptData(data, Template(tokenizer, [ItemText(title) for title in TITLES], config.prompt), None, None)
        return instances_of(config, tables, TRAIN, traces, np.linspace(-1, 1, 6, dtype=np.float32) if offsets else None), tables

    return build


def batch_of(instances, numbers):
    """One micro batch in this order: one run."""
    weight = np.full(len(numbers), 1 / len(numbers), np.float32)
    [batch] = step_batches([instances], np.zeros_like(numbers), numbers, weight, 10**6, run_length=len(numbers))
    return batch


def answers(batch):
    return [batch.answer_ids[batch.answer_rows == row].tolist() for row in range(len(batch.label))]


def test_kind_and_weights_are_columns_of_the_row(make):
    instances, tables = make(traces=[Trace(4, "because of noir")])
    batch = batch_of(instances, np.array([0, 4, 3]))  # number 4 is the first trace
    assert batch.label.tolist() == [1.0, 1.0, 1.0]
    assert batch.user.tolist() == [0, 1, 1]
    assert batch.w_rec.tolist() == pytest.approx([0.8, 0.1, 0.8])
    assert batch.w_think.tolist() == pytest.approx([0.2, 0.9, 0.2])
    plain, trace, other = answers(batch)
    assert plain == other == tables.template.answer(True)
    assert trace == tables.template.answer(True, "because of noir")
    assert batch.gates.tolist() == [0] * 3
    assert batch.weight.tolist() == pytest.approx([1 / 3] * 3)


def test_every_row_carries_its_offset_a_trace_that_of_its_row(make):
    whole, numbers = make(traces=[Trace(4, "because of noir")], offsets=True)[0], np.array([0, 4, 3])
    assert batch_of(whole, numbers).offset.tolist() == np.linspace(-1, 1, 6, dtype=np.float32)[[0, 4, 4]].tolist()
    assert batch_of(make()[0], numbers[:1]).offset.tolist() == [0.0]


@pytest.mark.parametrize("kind", ["first", "after"])
def test_the_verdict_is_read_one_place_before_it_is_said(make, kind):
    instances, tables = make({"prompt": {"answer": kind, "priors": False}}, [Trace(1, "because of noir")])
    batch = batch_of(instances, np.arange(5))
    for row in range(5):
        said = batch.answer_ids[(batch.answer_rows == row) & (batch.answer_at == batch.verdict_at[row])]
        assert said.tolist() == [tables.template.verdict_ids[int(batch.label[row])]]


def test_a_prompt_shows_only_what_came_before(make):
    instances, tables = make()
    batch = batch_of(instances, np.arange(4))
    sizes = [span.end - span.begin for span in batch.tree.spans]  # of these rows none shares its history
    shown = [tables.template.tokenizer.decode(ids) for ids in batch.input_ids[0].split(sizes)]
    assert [text.split("Would")[0].count("liked\n") for text in shown] == [0, 1, 0, 1]
    assert '"Alpha": liked\n' in shown[1]


def test_text_tokens_are_left_out_of_the_whole_run_or_not_at_all(make):
    silent = {"train": {"loss": LOSS | {"plain_think": 0.0}}}
    assert len(batch_of(make(silent)[0], np.arange(4)).answer_ids) == 0
    # With traces in the run a batch without any still carries answer tokens, or ranks would call different layers.
    assert len(batch_of(make(silent, [Trace(0, "because")])[0], np.arange(4)).answer_ids) == 8


def test_the_order_counts_plain_rows_and_traces(make):
    tree = {"train": {"loss": LOSS, "trace_share": 0.5, "global_adapter": {"batch_size": 4}}}
    order = make(tree, [Trace(0, "because")] * 3)[0].order(4, seed=1)
    assert all((order.batch(step) >= 4).sum() == 2 for step in range(6))
    assert set(np.concatenate([order.batch(step) for step in range(6)])) == set(range(7))


def test_traces_find_their_row_and_others_stay_out(make, tmp_path):
    instances, tables = make()
    (tmp_path / "traces").mkdir()
    pl.DataFrame({"row": [104, 7, 100], "text": ["second user", "nobody", "first user"]}).write_parquet(tmp_path / "traces/traces.parquet")
    places = ArtefactPaths({"traces": str(tmp_path / "traces")})
    found = traces_of(tables.interactions, accepted(instances.config, places))
    assert found == [Trace(0, "first user"), Trace(4, "second user")]
    assert accepted(run_file.parse({"traces": {"enabled": False}}), places).is_empty()
    assert traces_of(tables.interactions, accepted(instances.config, ArtefactPaths({"traces-first": str(tmp_path / "traces")}))) == found


@pytest.mark.parametrize("dislikes", [True, False])
def test_a_history_without_dislikes_neither_shows_nor_teaches_one(make, dislikes):
    """Dislikes stay what is asked about: only the history, and the lines that teach the base to read one, leave them out."""
    _, tables = make({"prompt": {"priors": False, "history_dislikes": dislikes}})
    shown = tables.template.text(tables.prompt(2))
    assert ['"Alpha": liked' in shown, '"Beta": disliked' in shown] == [True, dislikes]
    told = NanoSection(question_share=0.0, title_dropout=0.0)
    lines = "".join(tables.template.tokenizer.decode(ids) for ids, _ in windows(tables, told, {}, 0))
    assert ['"Beta": liked' in lines, '"Gamma": disliked' in lines] == [True, dislikes]
    asked = [ids for ids, _ in windows(tables, NanoSection(question_share=1.0), {}, 0)]
    assert sum(ids.count(tables.template.verdict_ids[0]) for ids in asked) == 2


@pytest.mark.parametrize("answer", ["first", "after"])
def test_a_base_that_is_to_speak_reads_verdict_and_analysis_of_its_own_rows(make, answer):
    """In the order in which it will be asked for them."""
    tables = make({"prompt": {"priors": False, "answer": answer}})[1]
    decode = tables.template.tokenizer.decode
    rows = list(spoken(tables, NanoSection(num_spoken=99), 0))
    assert len(rows) == (tables.interactions.split == 0).sum()
    for ids, weights in rows:
        begins = weights.index(1.0)
        assert weights == [0.0] * begins + [1.0] * (len(ids) - begins)
        assert ids[begins if answer == "first" else -2] in tables.template.verdict_ids
        assert "liked" in decode(ids[begins:])
        assert "overall" in decode(ids[begins:])
    assert list(spoken(tables, NanoSection(), 0)) == []
