"""When there is nothing to train, the stage says so and starts nothing."""

from __future__ import annotations

from thinkrec.config import Config
from thinkrec.job import Job
from thinkrec.store import Store
from thinkrec.train import experts


def test_one_cluster_trains_no_expert(tmp_path):
    store = Store(str(tmp_path))
    with store.create("cluster", "key0", {}, {}) as draft:
        draft.figures["num_clusters"] = 1
    cluster = store.find("cluster", "key0")
    with store.create("experts", "key1", {"cluster": cluster}, {}) as draft:
        experts.run(Job(Config(), {"cluster": cluster}, draft, store, "key1", lambda event, **fields: None))
    made = store.find("experts", "key1")
    assert made.figures == {"used": False}
    assert made.manifest["files"] == {}
