"""`thinkrec package`: what it writes, and what it refuses."""

from __future__ import annotations

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
def package(finished, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    (folder / "run.toml").write_text(reference.run_toml(thinkrec.open_run(finished).settings))
    assert call("package", str(folder / "run.toml"), str(folder / "package")) == 0
    return folder / "package"


def test_the_package_of_a_run_file_opens(package):
    assert open_package(str(package))[0].config.adapter.rank == 2


def test_a_run_that_is_not_there_has_no_package(tmp_path, capsys):
    (tmp_path / "run.toml").write_text(f'[run]\ndir = "{tmp_path}/run"\n')
    assert call("package", str(tmp_path / "run.toml"), str(tmp_path / "package")) == 2
    assert "there is no finished run here" in capsys.readouterr().err
