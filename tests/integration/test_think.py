"""The whole line with prompt.answer = "after", under ZeRO-1 over a base in bfloat16: the model reasons before its verdict is read, and the
report says what that is worth (D11)."""

from __future__ import annotations

import json

import pytest
from tiny import as_on_gpus

from thinkrec.artefacts.scores import read_scores
from thinkrec.config import run as run_file
from thinkrec.pipeline.execute import run_stages

pytestmark = [pytest.mark.long, pytest.mark.cluster, pytest.mark.timeout(1800)]


def test_scores_wait_for_the_reasoning_and_its_worth_is_reported(ray_cluster, tmp_path):
    tree = as_on_gpus("zero1") | {"run": {"dir": str(tmp_path)}}
    tree["prompt"]["answer"] = "after"
    artefacts = run_stages(run_file.parse(tree), lambda event: None)
    fusion, direct = (read_scores(artefacts["score"].path(), name) for name in ("fusion", "direct"))
    assert fusion["row"].to_list() == direct["row"].to_list()
    # What the model says, not the sum with the prior: in so small a world the sum's weight of the model may be 0.
    assert (fusion["model"] != direct["model"]).any()
    report = json.loads(artefacts["evaluate"].path("report.json").read_text())
    think = report["explanations"]["think"]
    assert think["difference"]["value"] == pytest.approx(think["after"] - think["none"])
    assert {row["against"] for row in report["differences"]} >= {"prior", "prior+direct", "prior+global"}
