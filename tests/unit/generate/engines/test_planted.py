"""The teacher that is a truth table: it says the rule and the likelier verdict, of the rows it is asked about."""

import polars as pl
import pytest

from thinkrec.config.generation import TracesSection
from thinkrec.config.run import parse
from thinkrec.errors import ConfigError
from thinkrec.generate.engines.planted import PlantedEngine
from thinkrec.generate.engines.protocol import GenParams, GenRequest
from thinkrec.generate.traces.checks import split_verdict
from thinkrec.pipeline.checks import check_run
from thinkrec.pipeline.keys import stage_keys


@pytest.fixture
def engine(tmp_path):
    traces = ["heist is liked, noir or not.", "noir is disliked, noir or not.", "unasked"]
    pl.DataFrame({"row": [4, 5, 6], "p_like": [0.5, 0.4, 0.9], "trace": traces}).write_parquet(tmp_path / "truth.parquet")
    return PlantedEngine(tmp_path)


def test_it_says_the_rule_and_the_likelier_verdict_in_the_order_of_the_requests(engine):
    results = engine.generate([GenRequest(row, "", GenParams(8)) for row in ("5", "4")])
    assert [split_verdict(result.text) for result in results] == [
        ("noir is disliked, noir or not.", 0),
        ("heist is liked, noir or not.", 1),
    ]
    assert [(result.id, result.finish_reason, result.num_tokens) for result in results] == [("5", "stop", 7), ("4", "stop", 7)]


def test_only_a_planted_world_has_one(make_config):
    planted = {"traces": {"teachers": [{"name": "truth", "path": "planted"}]}}
    check_run(make_config(planted))  # no folder is looked for
    assert stage_keys(make_config(planted))["teacher"]
    log = {"data": {"source": "movielens1m", "path": "x"}}
    for tree in (planted, {"base": {"nano": {"reason_share": 0.5}}}):
        with pytest.raises(ConfigError, match="planted"):
            parse(log | tree)
    parse(log)
    assert TracesSection.model_validate(planted["traces"]).teachers[0].has_folder is False
