"""Artefacts: they exist whole or not at all, and any later change of a file is named."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from pathlib import Path

import pytest
from pyarrow import fs

from thinkrec.errors import ArtefactError, ConfigError
from thinkrec.store.address import check_name, open_root, read_json
from thinkrec.store.artefacts import MANIFEST, Artefact, Store, digest, fetch
from thinkrec.store.digests import fingerprint


@pytest.fixture(params=["path", "address"])
def root(request, tmp_path) -> str:
    """The same folder as a local path and as an address, which goes through pyarrow's remote code."""
    return str(tmp_path) if request.param == "path" else f"file://{tmp_path}"


@pytest.fixture(autouse=True)
def home(tmp_path_factory, monkeypatch):
    """The cache of remote artefacts lives below the home folder."""
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))


def commit(store: Store, stage: str = "ingest", key: str = "k1", text: str = "rows", **inputs: Artefact) -> Artefact:
    with store.create(stage, key, inputs, {"seed": 1}) as draft:
        (draft.local() / "deep").mkdir()
        (draft.local() / "deep/data.txt").write_text(text)
        draft.figures["num_rows"] = len(text)
    found = store.find(stage, key)
    assert found is not None
    return found


def test_a_committed_artefact_says_what_it_is(root):
    store = Store(root)
    first = commit(store)
    second = commit(store, "encode", "k2", ingest=first)
    first.verify()
    assert (first.key, first.figures) == ("k1", {"num_rows": 4})
    assert first.path("deep/data.txt").read_text() == "rows"
    assert set(first.manifest["files"]) == {"deep/data.txt"}
    assert first.manifest["files"]["deep/data.txt"]["bytes"] == 4
    assert first.manifest["settings"] == {"seed": 1}
    assert second.manifest["inputs"] == {"ingest": {"stage": "ingest", "key": "k1", "sha256": digest(first.manifest)}}
    assert {"torch", "ray", "pyarrow"} <= set(first.manifest["versions"])


class Going:
    """A file system on which a file goes the moment after somebody has looked at it."""

    def __init__(self, system: fs.FileSystem, path: Path) -> None:
        self.system, self.path = system, path

    def __getattr__(self, name: str):
        return getattr(self.system, name)

    def get_file_info(self, path):
        found = self.system.get_file_info(path)
        self.path.unlink(missing_ok=True)
        return found


def test_a_file_that_goes_while_it_is_looked_for_is_not_there(tmp_path, monkeypatch):
    artefact = commit(Store(str(tmp_path)))
    manifest, data = artefact.path(MANIFEST), artefact.path("deep/data.txt")
    for path, ask in ((data, artefact.verify), (manifest, lambda: read_json(str(manifest)))):
        system, _ = open_root(str(path))
        monkeypatch.setattr("thinkrec.store.address.open_root", lambda uri, system=system, path=path: (Going(system, path), str(uri)))
        with contextlib.suppress(ArtefactError):
            ask()  # it may still be read, or be missed; nothing else may come of it
        path.unlink(missing_ok=True)
        if path == data:
            with pytest.raises(ArtefactError, match="is gone"):
                ask()
        else:
            assert ask() is None


def test_an_artefact_that_was_written_again_is_copied_again(tmp_path):
    store = Store(f"file://{tmp_path}")
    assert commit(store).path("deep/data.txt").read_text() == "rows"
    assert commit(store, text="other").path("deep/data.txt").read_text() == "other"


def test_an_error_while_writing_leaves_nothing_to_find_and_the_next_try_sweeps(root, tmp_path):
    store = Store(root)

    def die_halfway() -> None:
        with store.create("ingest", "k1", {}, {}) as draft:
            (draft.local() / "leftover.txt").write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        die_halfway()
    assert store.find("ingest", "k1") is None
    (tmp_path / "ingest/k1/of_a_killed_writer").mkdir(parents=True)
    (tmp_path / "ingest/k1/of_a_killed_writer/part.parquet").write_text("half")
    assert set(commit(store).manifest["files"]) == {"deep/data.txt"}
    assert not (tmp_path / "ingest/k1/of_a_killed_writer").exists()


def test_the_manifest_comes_last(tmp_path):
    store = Store(str(tmp_path))
    with store.create("ingest", "k1", {}, {}) as draft:
        (draft.local() / "data.txt").write_text("rows")
        assert store.find("ingest", "k1") is None
        assert not (draft.local() / MANIFEST).exists()
    assert sorted(path.name for path in (tmp_path / "ingest/k1").iterdir()) == ["data.txt", MANIFEST]


def test_all_is_on_the_disk_before_the_manifest_is_there_and_its_name_after(root, tmp_path, monkeypatch):
    fsync, synced = os.fsync, []

    def noted(handle: int) -> None:
        place = re.sub(r"\.[0-9a-f]{8}\.tmp$", ".tmp", os.readlink(f"/proc/self/fd/{handle}"))
        synced.append((place, (tmp_path / "ingest/k1" / MANIFEST).exists()))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    commit(Store(root))
    below = [str(tmp_path / "ingest/k1" / name) for name in ("deep/data.txt", "deep", "", f"{MANIFEST}.tmp")]
    assert synced[:4] == [(path.rstrip("/"), False) for path in below]
    assert {(str(tmp_path / name), True) for name in ("ingest/k1", "ingest")} | {(str(tmp_path), True)} == set(synced[4:])


@pytest.mark.parametrize("name", ["stage", "key"])
def test_an_artefact_brought_from_elsewhere_is_refused_by_its_own_name(tmp_path, name):
    commit(Store(str(tmp_path)))
    place = {"stage": "encode/k1", "key": "ingest/k2"}[name]
    shutil.copytree(tmp_path / "ingest/k1", tmp_path / place)
    with pytest.raises(ArtefactError, match="ingest/k1, brought here"):
        Store(str(tmp_path)).find(*place.split("/"))


def test_distributed_writers_fill_the_same_place(tmp_path):
    store = Store(f"file://{tmp_path}")
    with store.create("ingest", "k1", {}, {}) as draft:
        (draft.local() / "by_folder.txt").write_text("a")
        system, base = open_root(f"{draft.shared()}/by_address.txt")
        with system.open_output_stream(base) as stream:
            stream.write(b"b")
    found = store.find("ingest", "k1")
    assert set(found.manifest["files"]) == {"by_folder.txt", "by_address.txt"}
    found.verify()


def test_what_others_make_of_a_shared_file_stays_and_is_fetched_as_it_is_now(tmp_path, monkeypatch):
    """What the driver wrote before it shared the draft would else come back over it at commit, or out of the cache."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    store = Store(f"file://{tmp_path}/run")
    with store.create("teachers", "k1", {}, {}) as draft:
        (draft.local() / "model.txt").write_text("untrained")
        assert (fetch(draft.shared()) / "model.txt").read_text() == "untrained"
        assert not list(draft.local().iterdir())
        (tmp_path / "run/teachers/k1/model.txt").write_text("trained")
        assert (fetch(draft.shared()) / "model.txt").read_text() == "trained"
        (draft.local() / "more.txt").write_text("more")
    found = store.find("teachers", "k1")
    assert set(found.manifest["files"]) == {"model.txt", "more.txt"}
    assert (found.path("model.txt").read_text(), fetch(found.uri)) == ("trained", found.path())


@pytest.mark.parametrize("spoil", ["flip", "cut", "remove"])
def test_a_changed_file_is_named(root, tmp_path, spoil):
    artefact = commit(Store(root))
    file = tmp_path / "ingest/k1/deep/data.txt"
    if spoil == "remove":
        file.unlink()
    else:
        file.write_bytes(bytes([file.read_bytes()[0] ^ 1, *file.read_bytes()[1:]]) if spoil == "flip" else file.read_bytes()[:-1])
    with pytest.raises(ArtefactError, match="gone" if spoil == "remove" else "changed") as caught:
        artefact.verify()
    assert "deep/data.txt" in caught.value.where


def test_a_manifest_of_another_schema_is_refused(tmp_path):
    commit(Store(str(tmp_path)))
    file = tmp_path / "ingest/k1" / MANIFEST
    file.write_text(json.dumps(json.loads(file.read_text()) | {"schema_version": 99}))
    with pytest.raises(ArtefactError, match="schema 99"):
        Store(str(tmp_path)).find("ingest", "k1")


def test_a_manifest_cut_short_is_named(tmp_path):
    commit(Store(str(tmp_path)))
    file = tmp_path / "ingest/k1" / MANIFEST
    file.write_text(file.read_text()[:50])
    with pytest.raises(ArtefactError) as caught:
        Store(str(tmp_path)).find("ingest", "k1")
    assert caught.value.where.endswith(MANIFEST)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "a/../b",
        "/etc/passwd",
        "a/b",
        "a\\b",
        "a\0b",
        "a\n",
        "a b",
        "x" * 300,
        "\u0430bc",
        "\uff0e\uff0e",
        ".hidden",
        "-",
        "é",
    ],
)
def test_a_name_that_could_leave_the_run_folder_is_refused(tmp_path, name):
    with pytest.raises(ConfigError, match="cannot name a file"):
        check_name(name)
    with pytest.raises(ConfigError):
        Store(str(tmp_path)).find("ingest", name)
    with pytest.raises(ConfigError), Store(str(tmp_path)).create(name, "k1", {}, {}):
        pytest.fail("the block was entered")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a", "user-7", "global-3f.00000012", "A_b", "x" * 128])
def test_a_plain_name_passes(name):
    assert check_name(name) == name


def test_an_address_nobody_can_open_is_named():
    with pytest.raises(ConfigError, match="cannot be opened"):
        Store("nosuch://bucket/run").find("ingest", "k1")


def test_no_file_is_no_json(root):
    assert read_json(f"{root}/none.json") is None


def test_a_digest_is_stable_and_does_not_look_at_the_order_of_keys():
    assert digest({"a": 1, "b": [1.5, None, "é"]}) == digest({"b": [1.5, None, "é"], "a": 1})
    assert digest({"a": 1}) == "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"
    assert digest([1, 2]) != digest([2, 1])


def test_a_fingerprint_tells_content_names_and_places(tmp_path):
    def made(name: str, files: dict[str, str]) -> Path:
        for file, text in files.items():
            (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / file).write_text(text)
        return tmp_path / name

    one = fingerprint(made("one", {"a.txt": "x", "sub/b.txt": "y"}))
    assert fingerprint(made("two", {"sub/b.txt": "y", "a.txt": "x"})) == one  # the folder's own name and place do not count
    shutil.copytree(tmp_path / "one", tmp_path / "copy")
    assert fingerprint(tmp_path / "copy") == one
    others = [{"a.txt": "z", "sub/b.txt": "y"}, {"c.txt": "x", "sub/b.txt": "y"}, {"a.txt": "x", "b.txt": "y"}, {"a.txt": "x"}]
    found = {fingerprint(made(f"other{number}", files)) for number, files in enumerate(others)}
    assert len(found | {one}) == 5
    assert fingerprint(tmp_path / "one/a.txt") == fingerprint(tmp_path / "two/a.txt") != fingerprint(tmp_path / "one/sub/b.txt")
