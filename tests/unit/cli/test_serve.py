"""`thinkrec package` and `thinkrec serve`: what they write and say, and what they refuse before anything starts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import thinkrec
from thinkrec.cli.main import main
from thinkrec.config import reference
from thinkrec.serve.opened import open_package


def call(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def run_file(finished, tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("cli") / "run.toml"
    file.write_text(reference.run_toml(thinkrec.open_run(finished).settings))
    return file


@pytest.fixture(scope="module")
def package(run_file) -> Path:
    folder = run_file.parent / "package"
    assert call("package", str(run_file), str(folder)) == 0
    return folder


def test_the_package_of_a_run_file_opens(package):
    assert open_package(str(package))[0].config.adapter.rank == 2


def test_what_vllm_is_handed_is_told_with_its_errors_and_how_to_start_it(run_file, tmp_path, capsys):
    assert call("vllm", str(run_file), str(tmp_path / "out"), "--max-mixtures", "1", "--set", "engine.vllm.max_lora_rank=8") == 0
    said = capsys.readouterr().out
    assert "4 adapters, 1 of them mixtures on a grid of 1/100" in said
    assert re.search(r"gates move by at most 0\.00\d+; scores by at most 0\.00\d+, p_like by 0\.000\d+, over 12 pairs", said)
    assert f"vllm serve --config {tmp_path}/out/vllm.yaml" in said
    assert call("vllm", str(run_file), str(tmp_path / "out")) == 2
    assert "something lies here" in capsys.readouterr().err


def test_a_run_that_is_not_there_has_no_package(tmp_path, capsys):
    (tmp_path / "run.toml").write_text(f'[run]\ndir = "{tmp_path}/run"\n')
    assert call("package", str(tmp_path / "run.toml"), str(tmp_path / "package")) == 2
    assert "there is no finished run here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--host", "0.0.0.0"), 2, "no key is asked for"),
        (("--key-env", "NO_SUCH_KEY"), 3, "NO_SUCH_KEY is not set"),
    ],
)
def test_what_cannot_be_served_is_refused_before_ray_starts(package, monkeypatch, capsys, words, code, said):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    monkeypatch.setattr("thinkrec.distributed.session.ray_session", None)
    assert call("serve", str(package), *words) == code
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(("spoil", "said"), [("missing", "there is no serving package here"), ("truncated", "is not whole")])
def test_a_package_that_is_none_is_refused_before_ray_starts(tmp_path, monkeypatch, capsys, spoil, said):
    monkeypatch.setattr("thinkrec.distributed.session.ray_session", None)
    if spoil == "truncated":
        (tmp_path / "package.json").write_text('{"format"')
    assert call("serve", str(tmp_path)) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
