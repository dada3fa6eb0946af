from __future__ import annotations

from dataclasses import asdict

import pytest

from thinkrec.config.generation import EngineSection
from thinkrec.errors import ConfigError, MissingFileError
from thinkrec.generate.traces.teacher import Teacher, load_teachers
from thinkrec.pipeline.checks import check_run
from thinkrec.prompt.catalogue import ArtefactPaths
from thinkrec.store.address import write_json
from thinkrec.store.artefacts import Store


def test_a_nano_teacher_needs_a_nano_base(make_config, parrot):
    base = {"source": "folder", "path": str(parrot)}
    with pytest.raises(ConfigError, match="grown from the nano base") as refused:
        check_run(make_config({"base": base}))
    assert "traces.enabled = false" in refused.value.fix
    check_run(make_config({"base": base, "traces": {"enabled": False}}))
    check_run(make_config())


def test_a_teacher_folder_must_be_there(make_config, tmp_path, parrot):
    with pytest.raises(MissingFileError):
        check_run(make_config({"traces": {"teachers": [{"name": "a", "path": str(tmp_path / "none")}]}}))
    base = {"source": "folder", "path": str(parrot)}
    check_run(make_config({"base": base, "traces": {"teachers": [{"name": "a", "path": str(parrot)}]}}))


def test_a_server_has_models_and_grows_none(make_config):
    engine = {"kind": "http", "http": {"url": "http://127.0.0.1:1/v1", "model": "reader"}}
    with pytest.raises(ConfigError, match="taught here"):
        check_run(make_config({"engine": engine}))
    served = {"teachers": [{"name": "Qwen/QwQ-32B"}]}
    check_run(make_config({"engine": engine, "traces": served}))
    with pytest.raises(ConfigError, match="no folder"):
        check_run(make_config({"traces": served}))
    with pytest.raises(ConfigError, match="reading keywords"):
        check_run(make_config({"engine": {"kind": "http", "http": {"url": "http://127.0.0.1:1/v1"}}, "traces": served}))


def test_a_teacher_is_found_where_it_was_made(tmp_path):
    made = [Teacher("a", "", "h1", 1.0, True), Teacher("b", "/models/b", "h2", 2.0, False)]
    store = Store(str(tmp_path))
    with store.create("teacher", "k", {}, {}) as draft:
        write_json(f"{draft.local()}/teachers.json", {"teachers": [asdict(teacher) for teacher in made]})
    here, there = load_teachers(ArtefactPaths({"teacher": store.find("teacher", "k").uri}))
    assert here.folder == str(tmp_path / "teacher/k/model")
    assert there == made[1]
    assert there.model(EngineSection()) == "/models/b"
    assert there.model(EngineSection.model_validate({"kind": "http", "http": {"url": "http://x/v1"}})) == "b"
