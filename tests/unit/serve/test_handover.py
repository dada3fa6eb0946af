"""What vLLM is handed says by one adapter what the fused model says by gates on the grid, and what cannot be handed over is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.special import expit

import thinkrec
from thinkrec.artefacts.handover import Handover
from thinkrec.data.interactions import Interactions
from thinkrec.errors import ConfigError
from thinkrec.model.peft_files import peft_shapes
from thinkrec.prompt.catalogue import ArtefactPaths
from thinkrec.recommend.histories import of_users
from thinkrec.recommend.ranker import Ranker
from thinkrec.score.scorer import NOTHING
from thinkrec.serve.handover import write_handover


@pytest.fixture(scope="module")
def run(finished) -> thinkrec.Run:
    return thinkrec.open_run(finished)


@pytest.fixture(scope="module")
def written(run, tmp_path_factory) -> tuple[Path, Handover]:
    folder = tmp_path_factory.mktemp("handover") / "out"
    return folder, write_handover(run.settings, run.artefacts, str(folder), max_mixtures=4)


@pytest.fixture(scope="module")
def sample(written) -> pl.DataFrame:
    return pl.read_parquet(written[0] / "sample.parquet")


def served(folder: Path) -> dict[str, str]:
    return dict(pl.read_parquet(folder / "users/*/*.parquet", hive_partitioning=False).iter_rows())


def dense(handover: Handover) -> dict[str, np.ndarray]:
    """The gates of each adapter, the global one last."""
    slots = ("expert-0", "expert-1", "global")
    return {one.name: np.array([one.gates.get(slot, 0.0) for slot in slots], np.float32) for one in handover.adapters}


def test_everybody_is_served_by_gates_that_are_his_but_for_the_error_that_is_told(run, written):
    folder, handover = written
    adapter_of, gates = served(folder), dense(handover)
    users = run.artefacts["cluster"].path("assignment")
    own = {row["user_id"]: row["gates"] for row in pl.read_parquet(users / "*/*.parquet", hive_partitioning=False).to_dicts()}
    assert adapter_of.keys() == own.keys()
    told = np.zeros((len(own), 3), np.float32)
    for at, pairs in enumerate(own.values()):
        told[at, [pair["expert"] for pair in pairs]] = [pair["weight"] for pair in pairs]
    moved = np.abs(told - np.array([gates[adapter_of[user]] for user in own])).max()
    assert moved == pytest.approx(handover.largest_gate_error, abs=1e-7)
    assert 0 < moved < 1 / handover.num_steps
    assert {one.name: one.num_users for one in handover.adapters} == {name: list(adapter_of.values()).count(name) for name in gates}
    assert [name for name in gates if name.startswith("mixture")] == ["mixture-000"]
    assert handover.num_sampled == 3 * len(set(adapter_of.values()))


def test_a_baked_adapter_scores_as_the_fusion_by_its_gates(run, written, sample):
    gates, places = dense(written[1]), ArtefactPaths({stage: artefact.uri for stage, artefact in run.artefacts.items()})
    ranker = Ranker(run.settings, places)
    users = sample["user_id"].unique(maintain_order=True).to_list()
    items = [ranker.items.item_ids.index(item) for item in sample["item_id"][:3]]
    log = of_users(Interactions.load(places.path("ingest"), users=set(users)), users)
    questions = ranker.questions(log, [np.array(items)] * len(users))
    prompts = [prompt for user in range(len(users)) for prompt in questions.prompts(user)]
    assert [prompt.ids for prompt in prompts] == sample["prompt"].to_list()
    owners, ask = np.repeat(np.arange(len(users)), 3).tolist(), ranker.scorer(questions).scores
    fused = ask(prompts, owners, np.array([gates[name] for name in sample["adapter"]]), [NOTHING] * len(prompts))
    exact = ask(prompts, owners, questions.gates[owners], [NOTHING] * len(prompts))
    np.testing.assert_allclose(sample["score"], fused, atol=1e-5)
    np.testing.assert_allclose(sample["exact"], exact, atol=1e-5)
    others = ask(prompts, owners, np.array([gates[name][::-1].copy() for name in sample["adapter"]]), [NOTHING] * len(prompts))
    assert np.abs(sample["score"].to_numpy() - others).max() > 1e-2  # the control


def test_what_rounding_costs_is_told(run, written, sample, tmp_path):
    told = json.loads((written[0] / "handover.json").read_text())
    assert told["largest_score_error"] == pytest.approx((sample["score"] - sample["exact"]).abs().max())
    assert told["largest_p_like_error"] == pytest.approx(np.abs(expit(sample["exact"]) - sample["p_like"].to_numpy()).max(), abs=1e-6)
    assert told["largest_score_error"] > 1e-4
    coarse = write_handover(run.settings, run.artefacts, str(tmp_path / "coarse"), max_mixtures=0)
    assert (coarse.num_steps, [one.name for one in coarse.adapters]) == (1, ["expert-0", "expert-1", "global"])
    assert coarse.largest_score_error > 10 * told["largest_score_error"]
    assert any("prior + model_weight * score" in remark for remark in told["remarks"])


def test_plain_adapters_are_those_of_the_run_and_mixtures_are_pefts(run, written):
    folder, handover = written
    base = run.artefacts["base"].path("model")
    assert handover.base == str(base)
    for adapter in handover.adapters:
        own = folder / "adapters" / adapter.name
        assert json.loads((own / "adapter_config.json").read_text())["r"] == adapter.rank == 2 * len(adapter.gates)
        assert peft_shapes(own, base)
        if adapter.name in run.adapters:
            name = "adapter_model.safetensors"
            assert (own / name).read_bytes() == (run.adapters[adapter.name] / name).read_bytes()


def test_nothing_is_written_over(run, written):
    with pytest.raises(ConfigError, match="something lies here"):
        write_handover(run.settings, run.artefacts, str(written[0]), 4)
