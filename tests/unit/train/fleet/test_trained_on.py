"""Which experts train on in a refresh, and that the others are the very files they were."""

from __future__ import annotations

from dataclasses import asdict
from types import SimpleNamespace

import pytest

from thinkrec.artefacts.adapters import ADAPTER_FOLDER, LOG_FILE, expert_folder, read_timeline
from thinkrec.config import run as run_file
from thinkrec.job import Job
from thinkrec.routing.reroute import Move
from thinkrec.store.artefacts import Artefact, Store
from thinkrec.train.fleet import stage, trained_on
from thinkrec.train.fleet.trained_on import added_up, unmoved

MOVES = [Move(0, 100, 2, 1), Move(1, 100, 3, 4), Move(2, 0, 9, 0), Move(3, 50, 0, 50)]


@pytest.mark.parametrize(("share", "kept"), [(0.0, []), (0.03, [0]), (0.5, [0, 1]), (1.0, [0, 1, 3])])
def test_experts_stay_whose_clusters_moved_by_no_more_than_the_share(share, kept):
    """Cluster 2 has no expert yet."""
    assert unmoved(MOVES, [0, 1, 3], share) == kept


def test_days_of_few_moves_add_up_since_an_expert_trained():
    """4 % of 100 rows twice are 8 % of them, and a third day again; a day alone is below the share."""
    day = [Move(0, 100, 3, 1)]
    assert unmoved(added_up([], day), [0], 0.05) == [0]
    second = added_up(day, [Move(0, 102, 3, 1)])
    assert second == [Move(0, 100, 6, 2)]
    assert unmoved(second, [0], 0.05) == []
    assert added_up(second, [Move(0, 104, 0, 1), Move(1, 9, 2, 0)]) == [Move(0, 100, 6, 3), Move(1, 9, 2, 0)]


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(str(tmp_path))


@pytest.fixture
def inputs(store) -> dict[str, Artefact]:
    """Yesterday's experts of clusters 0, 1 and 3, and how clusters have moved; cluster 3 has no rows any more."""
    with store.create("cluster", "key0", {}, {}) as draft:
        draft.figures |= {"num_clusters": 4, "moves": [asdict(move) for move in MOVES]}
    with store.create("experts", "key0", {}, {}) as draft:
        draft.figures["moves"] = [asdict(Move(0, 200, 1, 1))]
        for expert in (0, 1, 3):
            folder = expert_folder(draft.local(), expert)
            folder.mkdir(parents=True)
            (folder / "adapter_model.safetensors").write_bytes(f"weights of {expert}".encode())
            (folder / LOG_FILE).write_text("")
    return {"cluster": store.find("cluster", "key0"), "experts-before": store.find("experts", "key0")}


def test_the_others_are_copied_byte_for_byte(store, inputs, monkeypatch):
    trained: list[int] = []

    def train(job, costs, keys, row_tokens):
        for expert in costs:
            trained.append(expert)
            with job.store.create("expert", keys[expert], {}, {}) as draft:
                (draft.local() / ADAPTER_FOLDER).mkdir()
                (draft.local() / ADAPTER_FOLDER / "adapter_model.safetensors").write_bytes(b"new weights")
                (draft.local() / LOG_FILE).write_text("")
                draft.figures |= {"started_at": 1.0, "ended_at": 2.0, "group": 0, "num_steps": 3, "num_rows": 4, "num_traces": 0}
                draft.figures["pack"] = [expert]

    monkeypatch.setattr(trained_on, "audit_artefacts", lambda inputs: [])
    monkeypatch.setattr(trained_on, "tokens_per_cluster", lambda job: ({0: 1.0, 1: 1.0, 2: 1.0}, 1.0))
    monkeypatch.setattr(stage, "train_fleet", train)
    config = run_file.parse({"refresh": {"moved_share": 0.05}})
    with store.create("experts", "key1", inputs, {}) as draft:
        trained_on.run(Job(config, inputs, draft, store, "key1", lambda event: None))
    made = store.find("experts", "key1")
    assert (made.figures["trained_on"], made.figures["kept"], trained) == ([1, 2], [0, 3], [1, 2])
    assert (made.figures["new"], made.figures["moves"]) == ([2], [asdict(Move(0, 200, 3, 2)), asdict(MOVES[3])])
    before, after = inputs["experts-before"].manifest["files"], made.manifest["files"]
    same = {name for name in before if before[name] == after[name] and name.endswith("safetensors")}
    assert same == {f"experts/{expert}/adapter_model.safetensors" for expert in (0, 3)}
    assert [span.expert for span in read_timeline(made.path())] == ["1", "2"]


def test_where_no_cluster_moved_nothing_is_trained(store, inputs, monkeypatch):
    monkeypatch.setattr(trained_on, "audit_artefacts", lambda inputs: [])
    monkeypatch.setattr(trained_on, "tokens_per_cluster", lambda job: ({0: 1.0, 1: 1.0}, 1.0))
    config = SimpleNamespace(refresh=SimpleNamespace(moved_share=1.0), split=SimpleNamespace(allow_leaks=False))
    with store.create("experts", "key1", inputs, {}) as draft:
        trained_on.run(Job(config, inputs, draft, store, "key1", lambda event: None))
    made = store.find("experts", "key1")
    assert (made.figures["trained_on"], made.figures["kept"]) == ([], [0, 1, 3])
    assert read_timeline(made.path()) == []


@pytest.mark.parametrize(("num_earlier", "trained"), [(0, []), (4, [0])])
def test_an_expert_trains_on_after_two_days_of_which_none_would_do(store, monkeypatch, num_earlier, trained):
    """Yesterday left it as it was and kept count; without that count it stays."""
    asked: list[int] = []
    monkeypatch.setattr(trained_on, "audit_artefacts", lambda inputs: [])
    monkeypatch.setattr(trained_on, "tokens_per_cluster", lambda job: ({0: 1.0}, 1.0))
    monkeypatch.setattr(trained_on, "train_missing", lambda job, costs, row_tokens: asked.extend(costs) or {})
    figures = {
        "cluster": {"num_clusters": 2, "moves": [asdict(Move(0, 100, 4, 0))]},
        "experts": {"moves": [asdict(Move(0, 100, num_earlier, 0))]},
    }
    for name, found in figures.items():
        with store.create(name, "two", {}, {}) as draft:
            draft.figures |= found
            expert_folder(draft.local(), 0).mkdir(parents=True)
    two = {"cluster": store.find("cluster", "two"), "experts-before": store.find("experts", "two")}
    with store.create("experts", "key2", two, {}) as draft:
        trained_on.run(Job(run_file.parse({"refresh": {"moved_share": 0.05}}), two, draft, store, "key2", print))
    assert asked == trained


def test_one_cluster_has_no_expert_to_train(store, inputs):
    with store.create("cluster", "one", {}, {}) as draft:
        draft.figures["num_clusters"] = 1
    with store.create("experts", "key1", {}, {}) as draft:
        trained_on.run(Job(run_file.parse({}), inputs | {"cluster": store.find("cluster", "one")}, draft, store, "key1", print))
    assert store.find("experts", "key1").figures == {"used": False}
