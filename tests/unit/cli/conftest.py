"""What tests of commands share: the command in this process."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from thinkrec.cli.main import main

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(capsys, tmp_path, monkeypatch) -> Command:
    """command(word, ...) -> (exit code, stdout, stderr), in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(list(words))
        out = capsys.readouterr()
        return int(caught.value.code or 0), out.out, out.err

    return run
