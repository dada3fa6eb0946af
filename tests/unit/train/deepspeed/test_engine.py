"""The user's DeepSpeed JSON: DeepSpeed ignores a misspelt key without a word, thinkrec does not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import get_type_hints

import pytest
from deepspeed.runtime.precision_config import DeepSpeedBF16Config
from deepspeed.runtime.zero.config import DeepSpeedZeroConfig
from deepspeed.runtime.zero.offload_config import DeepSpeedZeroOffloadOptimizerConfig, DeepSpeedZeroOffloadParamConfig

from thinkrec.config.deepspeed import Bf16, DeepSpeedFile, OffloadOptimizer, OffloadParam, ZeroOptimization
from thinkrec.errors import ConfigError, MissingFileError
from thinkrec.train.deepspeed import engine, keys

SHIPPED = sorted((Path(__file__).parents[4] / "ds_configs").glob("*.json"))


@pytest.fixture
def read(tmp_path):
    """read(text) checks a file with this text."""

    def write_and_read(text: str):
        (tmp_path / "mine.json").write_text(text)
        return engine.read_config(str(tmp_path / "mine.json"))

    return write_and_read


@pytest.mark.parametrize("file", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_file_passes_by_name_and_by_path(file):
    assert engine.read_config(file.stem) == engine.read_config(str(file)) == json.loads(file.read_text())
    assert engine.find_config(file.stem) == file


def test_the_stages_are_shipped():
    stages = {file.stem: engine.read_config(file.stem)["zero_optimization"]["stage"] for file in SHIPPED}
    assert stages == {"cpu": 3, "nano": 1, "zero1": 1, "zero2": 2, "zero3": 3, "zero3_offload": 3}


@pytest.mark.parametrize("file", SHIPPED, ids=lambda path: path.stem)
def test_deepspeed_itself_takes_every_shipped_file(file):
    config = DeepSpeedZeroConfig(**engine.read_config(file.stem)["zero_optimization"])
    assert int(config.stage) in (1, 2, 3)


@pytest.mark.parametrize(
    ("table", "model"),
    [
        (ZeroOptimization, DeepSpeedZeroConfig),
        (OffloadParam, DeepSpeedZeroOffloadParamConfig),
        (OffloadOptimizer, DeepSpeedZeroOffloadOptimizerConfig),
        (Bf16, DeepSpeedBF16Config),
    ],
)
def test_deepspeed_knows_every_key_we_do(table, model):
    names = {field.alias or name for name, field in model.model_fields.items()}
    assert set(get_type_hints(table)) <= names, set(get_type_hints(table)) - names


def test_the_names_installed_with_a_wheel_are_found_from_anywhere(tmp_path):
    root = Path(__file__).parents[4]
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=root, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    show = "print(find_config('zero3'), read_config('zero3')['zero_optimization']['stage'])"
    code = f"from thinkrec.train.deepspeed.engine import find_config, read_config; {show}"
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path / "site")}, capture_output=True, text=True
    )
    assert said.stdout.split() == [str(tmp_path / "site/thinkrec/ds_configs/zero3.json"), "3"], said.stderr
    assert sorted(file.name for file in (tmp_path / "site/thinkrec/ds_configs").iterdir()) == [file.name for file in SHIPPED]


def test_an_unknown_key_is_refused_with_the_nearest_name(read, tmp_path):
    with pytest.raises(ConfigError, match="unknown DeepSpeed key 'zero_optimisation'") as caught:
        read('{"zero_optimisation": {"stage": 3}}')
    assert caught.value.fix == "did you mean 'zero_optimization'?"
    assert caught.value.where == str(tmp_path / "mine.json")
    with pytest.raises(ConfigError) as caught:
        read('{"qqq": 1}')
    assert caught.value.fix == "remove it"


@pytest.mark.parametrize(
    ("zero_part", "message", "fix"),
    [
        (
            {"stage": 3, "stage3_prefetch_bucket": 1},
            "zero_optimization.stage3_prefetch_bucket'",
            "'zero_optimization.stage3_prefetch_bucket_size'",
        ),
        (
            {"stage": 3, "offload_param": {"devise": "cpu"}},
            "zero_optimization.offload_param.devise'",
            "'zero_optimization.offload_param.device'",
        ),
        ({"stage": 3, "reduce_bucket_size": "auto"}, "reduce_bucket_size is 'auto'", "leave the key out"),
        ({"stage": 3, "overlap_comm": 1}, "overlap_comm is 1", "write true or false"),
        ({"stage": True}, "stage is True", "write a whole number"),
        ({"stage": 3, "sub_group_size": -1}, "sub_group_size is -1", "write a whole number"),
        ({"stage": 0}, "stage is 0", "choose 1, 2 or 3"),
        ({}, "stage is 0", "choose 1, 2 or 3"),
        (True, "zero_optimization is True", "write {...}"),
        ({"stage": 2, "offload_param": {"device": "cpu"}}, "cannot offload", "use stage 3"),
        ({"stage": 3, "offload_param": {"device": "disk"}}, "no device 'disk'", "none, cpu, nvme"),
        ({"stage": 3, "offload_optimizer": {"device": "nvme"}}, "needs an nvme_path", "local disk"),
    ],
)
def test_what_stands_inside_is_checked_too(read, zero_part, message, fix):
    with pytest.raises(ConfigError) as caught:
        read(json.dumps({"zero_optimization": zero_part}))
    assert message in caught.value.what
    assert fix in caught.value.fix


def test_numbers_are_taken_as_deepspeed_takes_them(read):
    text = '{"zero_optimization": {"stage": 2, "reduce_bucket_size": 5e8, "offload_optimizer": {"device": "cpu"}}, "gradient_clipping": 1}'
    assert read(text)["zero_optimization"]["reduce_bucket_size"] == 5e8
    with pytest.raises(ConfigError, match="gradient_clipping is nan"):
        read(text.replace('": 1}', '": NaN}'))


@pytest.mark.parametrize("key", keys.OWNED)
def test_what_the_run_file_sets_is_refused_here(read, key):
    with pytest.raises(ConfigError, match=f"{key} is set by thinkrec") as caught:
        read(json.dumps({"gradient_clipping": 1.0, key: 8}))
    assert keys.OWNED[key] in caught.value.fix


def test_no_key_is_both_known_and_owned():
    assert not set(get_type_hints(DeepSpeedFile)) & set(keys.OWNED)


@pytest.mark.parametrize(
    ("text", "message"), [('{"bf16": }', "not JSON"), ("", "not JSON"), ("[1, 2]", "a list"), ('"zero3"', "a str"), ("3", "an? int")]
)
def test_what_is_no_json_object_is_named(read, tmp_path, text, message):
    with pytest.raises(ConfigError, match=message) as caught:
        read(text)
    assert caught.value.where == str(tmp_path / "mine.json")


def test_bytes_that_are_no_text_are_named(tmp_path):
    (tmp_path / "mine.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(ConfigError, match="not JSON"):
        engine.read_config(str(tmp_path / "mine.json"))


@pytest.mark.parametrize("name", ["zero4", "nowhere.json", "../ds_configs/none"])
def test_a_file_that_is_not_there_is_named(name):
    with pytest.raises(MissingFileError, match="DeepSpeed file is not there"):
        engine.find_config(name)
