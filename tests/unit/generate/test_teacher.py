from __future__ import annotations

import pytest

from thinkrec.errors import ConfigError, MissingFileError
from thinkrec.generate import teacher

FOLDER_BASE = {"source": "folder", "path": "somewhere"}


def test_a_nano_teacher_needs_a_nano_base(make_config):
    with pytest.raises(ConfigError, match="nano base") as refused:
        teacher.check(make_config({"base": FOLDER_BASE}))
    assert "traces.enabled = false" in refused.value.mend
    teacher.check(make_config({"base": FOLDER_BASE, "traces": {"enabled": False}}))
    teacher.check(make_config())


def test_a_teacher_folder_must_be_there(make_config, tmp_path, parrot):
    with pytest.raises(MissingFileError):
        teacher.check(make_config({"traces": {"teacher": str(tmp_path / "none")}}))
    teacher.check(make_config({"base": FOLDER_BASE, "traces": {"teacher": str(parrot)}}))
