from __future__ import annotations

import pytest

from thinkrec import pipeline
from thinkrec.errors import ConfigError, MissingFileError


def test_a_nano_teacher_needs_a_nano_base(make_config, parrot):
    base = {"source": "folder", "path": str(parrot)}
    with pytest.raises(ConfigError, match="nano base") as refused:
        pipeline.check(make_config({"base": base}))
    assert "traces.enabled = false" in refused.value.mend
    pipeline.check(make_config({"base": base, "traces": {"enabled": False}}))
    pipeline.check(make_config())


def test_a_teacher_folder_must_be_there(make_config, tmp_path, parrot):
    with pytest.raises(MissingFileError):
        pipeline.check(make_config({"traces": {"teacher": str(tmp_path / "none")}}))
    pipeline.check(make_config({"base": {"source": "folder", "path": str(parrot)}, "traces": {"teacher": str(parrot)}}))
