"""Cards that the Hub can read, whose metrics are the report's, beside adapters that are ready to be served."""

from __future__ import annotations

import pytest
import yaml
from huggingface_hub import ModelCard
from planted import EVIL, EXPERTS, report_of, run_stage

from thinkrec.evaluate.run_report.cards import cards
from thinkrec.evaluate.run_report.publish import publish
from thinkrec.store.artefacts import Artefact, Store


def metrics_of(card: str) -> dict[str, float]:
    return {result.metric_type: result.metric_value for result in ModelCard(card).data.eval_results or []}


def test_the_front_matter_is_yaml_that_says_what_the_adapter_is(judged: Artefact):
    found = cards(report_of(judged))
    assert list(found) == ["global", *(f"expert-{name}" for name in EXPERTS)]
    for name, card in found.items():
        head = yaml.safe_load(card.split("---\n")[1])
        assert (head["library_name"], head["base_model"], head["datasets"]) == ("peft", "nano", ["world"])
        assert {"lora", "recommendation"} <= set(head["tags"])
        assert "license" not in head
        named = head["model-index"][0] if metrics_of(card) else {"name": head["model_name"]}
        assert named["name"] == f"thinkrec-{name}"


def test_metrics_of_a_card_are_those_of_the_report(judged: Artefact):
    report = report_of(judged)
    found = cards(report)
    everybody = next(row["metrics"] for row in report["metrics"] if row["name"] == "prior+global")
    expected = {"roc_auc": "auc", "uauc": "uauc", "ndcg@5": "ndcg@5", "map@5": "map@5"}
    assert metrics_of(found["global"]) == {name: everybody[metric]["value"] for name, metric in expected.items()}
    areas = {row["cluster"]: row["auc"]["prior+experts"]["value"] for row in report["clusters"]}
    assert metrics_of(found["expert-1"]) == {"roc_auc": areas[1]}
    assert areas[0] != areas[1]
    assert "with the weight g = 0.500" in found["expert-1"]
    assert "| AUC of: Counted prior (no language model) |" in found["expert-1"]


def test_an_expert_without_test_rows_claims_nothing(judged: Artefact):
    card = cards(report_of(judged))["expert-10"]  # no user of the planted assignment is in cluster 10
    assert metrics_of(card) == {}
    assert "No figure" in card


def test_a_refreshed_run_has_a_card_of_every_expert(judged: Artefact):
    """Those that it kept and those that it trained on say so; one that is new began as in a run."""
    report = report_of(judged)
    report["timeline"] = [row for row in report["timeline"] if row["expert"] != "0"]
    assert "expert-0" not in cards(report)
    report["figures"]["experts"] = {"trained_on": [1, 10], "new": [10], "kept": [0]}
    found = cards(report)
    assert list(found) == ["global", *(f"expert-{name}" for name in EXPERTS)]
    assert "The expert of cluster 0, kept as it was before the newest day" in found["expert-0"]
    assert "The expert of cluster 1, which went on from the weights it had before the newest day and was trained on" in found["expert-1"]
    assert "The expert of cluster 10, started from the global adapter and trained on" in found["expert-10"]


def test_a_license_and_a_base_of_ones_own_are_named(judged: Artefact):
    report = report_of(judged)
    report["settings"]["evaluate"]["license"] = "apache-2.0"
    report["settings"]["traces"]["teachers"] = [{"name": "Teacher-8B", "path": "/models/Teacher-8B"}]
    report["settings"]["base"] |= {"source": "folder", "path": "/models/Some-Llama-1B"}
    data = ModelCard(cards(report)["global"]).data
    assert (data.license, data.base_model) == ("apache-2.0", "Some-Llama-1B")
    assert "/models" not in cards(report)["global"]  # a card is published; where files lie on this machine is nobody's business


def test_what_comes_from_data_is_escaped(judged: Artefact):
    report = report_of(judged)
    report["portraits"][0]["keywords"] = [{"keyword": EVIL, "lift": 2.0, "num_likes": 9}]
    card = cards(report)["expert-0"]
    assert "<script" not in card
    assert "&lt;script&gt;" in card


@pytest.mark.parametrize("address", ["{}", "file://{}"], ids=["path", "address"])
def test_publishing_puts_each_card_beside_its_adapter(inputs: dict[str, Artefact], tmp_path, address: str):
    store = Store(str(tmp_path / "store"))
    artefacts = dict(inputs)
    with store.create("global", "k", {}, {}) as draft:
        _adapter(draft.local() / "adapter", "all")
    with store.create("experts", "k", {}, {}) as draft:
        for expert in ("0", "1", "10"):
            _adapter(draft.local() / "experts" / expert, expert)
    artefacts |= {name: store.find(name, "k") for name in ("global", "experts")}
    artefacts["evaluate"] = run_stage(inputs, tmp_path / "judged")
    target = tmp_path / "run"
    _adapter(target / "adapters/expert-7", "of a run before")
    for _ in range(2):  # a second run overwrites
        publish(artefacts, address.format(target))
    assert sorted(path.name for path in target.iterdir()) == ["adapters", "metrics.csv", "report.html", "report.json"]
    assert sorted(path.name for path in (target / "adapters").iterdir()) == ["expert-0", "expert-1", "expert-10", "global"]
    for name, said in {"global": "all", "expert-0": "0", "expert-10": "10"}.items():
        folder = target / "adapters" / name
        assert sorted(path.name for path in folder.iterdir()) == ["README.md", "adapter_config.json", "adapter_model.safetensors"]
        assert (folder / "adapter_config.json").read_text() == said
        assert f"# thinkrec {name}\n" in (folder / "README.md").read_text()
    (target / "report.json").write_text("that of the run before")
    artefacts["global"].path("adapter/adapter_config.json").unlink()
    with pytest.raises(FileNotFoundError):
        publish(artefacts, address.format(target))
    assert (target / "report.json").read_text() == "that of the run before"  # it says what the run is, so it comes last


def test_a_run_without_experts_publishes_the_global_adapter_alone(inputs: dict[str, Artefact], tmp_path):
    store = Store(str(tmp_path / "store"))
    with store.create("global", "k", {}, {}) as draft:
        _adapter(draft.local() / "adapter", "all")
        draft.figures.update(inputs["global"].figures)
    with store.create("experts", "k", {}, {}):
        pass
    artefacts = inputs | {name: store.find(name, "k") for name in ("global", "experts")}
    artefacts["evaluate"] = run_stage(artefacts, tmp_path / "judged")
    publish(artefacts, str(tmp_path / "run"))
    assert [path.name for path in (tmp_path / "run/adapters").iterdir()] == ["global"]


def _adapter(folder, said: str) -> None:
    folder.mkdir(parents=True)
    for name in ("adapter_config.json", "adapter_model.safetensors", "log.jsonl"):
        (folder / name).write_text(said)
