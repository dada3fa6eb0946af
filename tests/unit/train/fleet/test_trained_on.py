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
from thinkrec.train.fleet.trained_on import unmoved

MOVES = [Move(0, 100, 2, 1), Move(1, 100, 3, 4), Move(2, 0, 9, 0), Move(3, 50, 0, 50)]


@pytest.mark.parametrize(("share", "kept"), [(0.0, []), (0.03, [0]), (0.5, [0, 1]), (1.0, [0, 1, 3])])
def test_experts_stay_whose_clusters_moved_by_no_more_than_the_share(share, kept):
    """Cluster 2 has no expert yet."""
    assert unmoved(MOVES, [0, 1, 3], share) == kept


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(str(tmp_path))


@pytest.fixture
def inputs(store) -> dict[str, Artefact]:
    """Yesterday's experts of clusters 0, 1 and 3, and how clusters have moved; cluster 3 has no rows any more."""
    with store.create("cluster", "key0", {}, {}) as draft:
        draft.figures |= {"num_clusters": 4, "moves": [asdict(move) for move in MOVES]}
    with store.create("experts", "key0", {}, {}) as draft:
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


def test_one_cluster_has_no_expert_to_train(store, inputs):
    with store.create("cluster", "one", {}, {}) as draft:
        draft.figures["num_clusters"] = 1
    with store.create("experts", "key1", {}, {}) as draft:
        trained_on.run(Job(run_file.parse({}), inputs | {"cluster": store.find("cluster", "one")}, draft, store, "key1", print))
    assert store.find("experts", "key1").figures == {"used": False}
