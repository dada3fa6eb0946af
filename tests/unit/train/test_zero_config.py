"""The user's DeepSpeed JSON: DeepSpeed ignores a misspelt key without a word, thinkrec does not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from thinkrec.errors import ConfigError, MissingFileError
from thinkrec.train import zero

SHIPPED = sorted((Path(__file__).parents[3] / "ds_configs").glob("*.json"))


@pytest.fixture
def read(tmp_path):
    """read(text) checks a file with this text."""

    def write_and_read(text: str):
        (tmp_path / "mine.json").write_text(text)
        return zero.read_config(str(tmp_path / "mine.json"))

    return write_and_read


@pytest.mark.parametrize("file", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_file_passes_by_name_and_by_path(file):
    assert zero.read_config(file.stem) == zero.read_config(str(file)) == json.loads(file.read_text())
    assert zero.find_config(file.stem) == file


def test_the_stages_are_shipped():
    stages = {file.stem: zero.read_config(file.stem)["zero_optimization"]["stage"] for file in SHIPPED}
    assert stages == {"cpu": 3, "zero1": 1, "zero2": 2, "zero3": 3, "zero3_offload": 3}


def test_an_unknown_key_is_refused_with_the_nearest_name(read, tmp_path):
    with pytest.raises(ConfigError, match="unknown DeepSpeed key 'zero_optimisation'") as caught:
        read('{"zero_optimisation": {"stage": 3}}')
    assert caught.value.mend == "did you mean 'zero_optimization'?"
    assert caught.value.where == str(tmp_path / "mine.json")
    with pytest.raises(ConfigError) as caught:
        read('{"qqq": 1}')
    assert caught.value.mend == "remove it"


@pytest.mark.parametrize("key", zero.OWNED_KEYS)
def test_what_the_run_file_sets_is_refused_here(read, key):
    with pytest.raises(ConfigError, match=f"{key} is set by thinkrec") as caught:
        read(json.dumps({"gradient_clipping": 1.0, key: 8}))
    assert zero.OWNED_KEYS[key] in caught.value.mend


def test_no_key_is_both_known_and_owned():
    assert not set(zero.KNOWN_KEYS) & set(zero.OWNED_KEYS)


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
        zero.read_config(str(tmp_path / "mine.json"))


@pytest.mark.parametrize("name", ["zero4", "nowhere.json", "../ds_configs/none"])
def test_a_file_that_is_not_there_is_named(name):
    with pytest.raises(MissingFileError, match="DeepSpeed file is not there"):
        zero.find_config(name)
