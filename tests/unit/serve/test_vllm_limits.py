"""What vLLM cannot serve is refused, and its own parser takes what its server is to be started with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from thinkrec.artefacts.handover import Handover, Served, write_server_file
from thinkrec.config.run import Config
from thinkrec.errors import ConfigError
from thinkrec.serve.vllm_limits import check_servable, remarks, server_arguments


@pytest.fixture
def server_file(make_llama, make_config, tmp_path) -> Path:
    """That of an expert and a mixture of three, for a model which is asked for the logit of Yes."""
    make_llama().config.save_pretrained(tmp_path / "base")
    config: Config = make_config({"base": {"dtype": "bfloat16"}, "train": {"loss": {"score": "yes"}}})
    adapters = [
        Served("expert-0", 8, {"expert-0": 1.0}, 3),
        Served("mixture-000", 24, {"expert-0": 0.5, "expert-1": 0.25, "global": 0.25}, 1),
    ]
    handover = Handover("/models/base", "", 1, adapters, "global", 4, 0.1, 0.1, 0.1, 6, "yes", (4, 5), 1.0, remarks(config), {})
    write_server_file(tmp_path, server_arguments(config, tmp_path / "base", handover, "/models/a,b=c"))
    return tmp_path / "vllm.yaml"


def test_the_server_is_told_where_everything_will_lie_and_how_wide_it_is(server_file):
    told = yaml.safe_load(server_file.read_text())
    assert (told["model"], told["dtype"], told["max-model-len"]) == ("/models/base", "bfloat16", 64)  # the llama takes no more
    assert (told["enable-lora"], told["max-lora-rank"], told["max-loras"], told["max-cpu-loras"]) == (True, 32, 2, 2)
    assert json.loads(told["lora-modules"][1]) == {"name": "mixture-000", "path": "/models/a,b=c/adapters/mixture-000"}
    assert told["logprobs-mode"] == "raw_logits"
    assert told["trust-remote-code"] is False


@pytest.mark.vllm
def test_vllms_own_parser_takes_it(server_file):
    pytest.importorskip("vllm", reason="vLLM is not installed: make test-vllm")
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    taken = make_arg_parser(FlexibleArgumentParser()).parse_args(["--config", str(server_file)])
    assert [(module.name, module.path) for module in taken.lora_modules] == [
        (name, f"/models/a,b=c/adapters/{name}") for name in ("expert-0", "mixture-000")
    ]
    assert (taken.model, taken.enable_lora, taken.max_lora_rank, taken.logprobs_mode) == ("/models/base", True, 32, "raw_logits")


@pytest.mark.parametrize(
    ("change", "address", "match"),
    [
        ({"prompt": {"slots": "all"}}, "out", "hold vectors"),
        ({"evaluate": {"fusion": "peft_linear"}}, "out", "not that of any one adapter"),
        ({"adapter": {"rank": 128}}, "out", "adapters of rank 128 for a server of rank 64"),
        ({}, "s3://bucket/out", "--at FOLDER"),
    ],
)
def test_what_vllm_cannot_serve_is_refused(make_config, change, address, match):
    with pytest.raises(ConfigError) as refused:
        check_servable(make_config(change), address, "")
    assert match in str(refused.value)
    check_servable(make_config(), address, "/models/here")


def test_what_a_client_has_to_know_is_said(make_config):
    assert len(remarks(make_config({"prior": {"kind": "none"}}))) == 1
    more = remarks(make_config({"base": {"dtype": "bfloat16"}, "prompt": {"answer": "after"}, "train": {"loss": {"score": "yes"}}}))
    assert [word for word, said in zip(("tables", "prior", "reason", "logit", "rounding"), more, strict=True) if word not in said] == []
