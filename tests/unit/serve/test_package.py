"""A package serves without its run, and one that is not whole, not ours or does not score as it tells is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import thinkrec
from thinkrec.artefacts.package import read_package_file
from thinkrec.data.interactions import Interactions
from thinkrec.errors import ConfigError, MissingFileError, ModelError, PackageError
from thinkrec.model.adapter_bank import AdapterBank
from thinkrec.prompt.catalogue import ArtefactPaths
from thinkrec.prompt.template import TEMPLATE_VERSION
from thinkrec.recommend.histories import of_users
from thinkrec.recommend.ranker import Ranker
from thinkrec.serve import canary
from thinkrec.serve.assemble import write_package
from thinkrec.serve.opened import open_package

ADAPTER = "experts/experts/1/adapter_model.safetensors"


@pytest.fixture(scope="module")
def run(finished) -> thinkrec.Run:
    return thinkrec.open_run(finished)


def refused(folder: Path, match: str, kind: type[Exception] = PackageError) -> None:
    with pytest.raises(kind, match=match) as caught:
        open_package(str(folder))
    assert caught.value.exit_code == 2
    assert caught.value.what
    assert caught.value.where
    assert caught.value.fix


def test_it_scores_as_the_run_and_needs_nothing_of_it(run, finished, packaged, tmp_path):
    shutil.copytree(packaged, tmp_path / "elsewhere")
    ranker, package = open_package(str(tmp_path / "elsewhere"))
    own = Ranker(run.settings, ArtefactPaths({stage: artefact.uri for stage, artefact in run.artefacts.items()}))
    users = ["u003", "u017", "nobody", "u039"]
    lists = []
    for asked in (ranker, own):
        log = of_users(Interactions.load(asked.places.path("ingest"), users=set(users)), users)
        lists.append(asked.rank(log, [np.arange(len(asked.items.item_ids))] * len(users)))
    np.testing.assert_allclose(lists[0].score, lists[1].score, atol=1e-5)
    np.testing.assert_allclose(lists[0].prior, lists[1].prior, atol=1e-5)
    assert lists[0].route == lists[1].route
    assert len(set(np.round(np.ravel(lists[0].score), 3))) > 50
    assert str(finished) not in (packaged / "package.json").read_text()
    assert package.key == read_package_file(packaged, TEMPLATE_VERSION).key


def test_it_holds_tables_tensors_and_json_and_no_more_than_serving_reads(packaged):
    names = {str(file.relative_to(packaged)) for file in packaged.rglob("*") if file.is_file()}
    assert {Path(name).suffix for name in names} == {".json", ".parquet", ".safetensors"}
    assert {"base/model/model.safetensors", "global/adapter/adapter_model.safetensors", ADAPTER, "cluster/router.json"} <= names
    assert "score/model_weight.json" in names
    assert not [name for name in names if "scores" in name or "quarantine" in name or "log" in name or "truth" in name]


def test_the_canary_tells_each_adapter_apart(packaged):
    told = read_package_file(packaged, TEMPLATE_VERSION).canary
    assert list(told.scores) == ["base", "global", "expert-0", "expert-1", "served"]
    assert len(told.scores["served"]) == len(told.user_ids) * len(told.item_ids) == canary.NUM_USERS * canary.NUM_ITEMS
    alone = np.array([told.scores[name] for name in ("base", "global", "expert-0", "expert-1")])
    assert min(np.abs(one - other).max() for at, one in enumerate(alone) for other in alone[:at]) > 1e-2


def test_a_server_that_drops_an_adapter_is_refused(packaged, monkeypatch):
    load = AdapterBank.load
    monkeypatch.setattr(AdapterBank, "load", lambda bank, slot, tensors: None if slot == 1 else load(bank, slot, tensors))
    refused(packaged, "the adapter expert-1 is not applied: it moves the scores of the base by -?0%")


def test_a_server_that_mixes_up_adapters_is_refused(packaged, monkeypatch):
    load = AdapterBank.load
    monkeypatch.setattr(AdapterBank, "load", lambda bank, slot, tensors: load(bank, {0: 1, 1: 0}.get(slot, slot), tensors))
    refused(packaged, "the adapter expert-0 is not applied")


def test_an_idle_adapter_is_not_packaged(run, tmp_path, monkeypatch):
    load = AdapterBank.load
    monkeypatch.setattr(AdapterBank, "load", lambda bank, slot, tensors: None if slot == 2 else load(bank, slot, tensors))
    with pytest.raises(PackageError, match="the adapter global does not move"):
        write_package(run.settings, run.artefacts, str(tmp_path / "package"))
    refused(tmp_path / "package", "no serving package here", MissingFileError)


def test_scores_a_little_off_are_refused(spoilt):
    def change(tree):
        tree["canary"]["scores"]["served"][0] += 1e-3

    refused(spoilt(change), "scores of served are .* away from what")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda tree: tree.update(format=99), "a package of format 99"),
        (lambda tree: tree.update(template_version=TEMPLATE_VERSION + 1), "prompts of template"),
        (lambda tree: tree.pop("canary"), "not that of a package: canary"),
        (lambda tree: tree["canary"].update(user_ids="everybody"), "not that of a package: canary.user_ids"),
        (lambda tree: tree["canary"]["scores"].pop("expert-1"), "the model has base, global, expert-0, expert-1"),
        (lambda tree: tree["canary"]["item_ids"].__setitem__(0, "nothing"), "asks about 'nothing'"),
        (lambda tree: tree["canary"]["user_ids"].__setitem__(0, "nobody"), "moves the scores|scores of"),
        (lambda tree: tree["canary"]["scores"].update(served=[float("nan")] * 9), "scores of served"),
        (lambda tree: tree["files"].update({"../../etc/passwd.json": "0"}), "leads out of the package"),
        (lambda tree: tree["files"].update({"/etc/passwd.json": "0"}), "leads out of the package"),
        (lambda tree: tree["files"].update({"base/model/../../x.json": "0"}), "leads out of the package"),
        (lambda tree: tree["files"].update({"base/model/code.py": "0"}), "is no table, no tensors and no JSON"),
        (lambda tree: tree["files"].update({"more.parquet": "0"}), "a file of the package is missing"),
        (lambda tree: tree["files"].pop("ingest/items.parquet"), "'ingest/items.parquet' is no file of this package"),
        (lambda tree: tree["settings"]["prompt"].update(hystory=3), "hystory"),
    ],
)
def test_a_spoilt_package_file_is_refused(spoilt, change, match):
    refused(spoilt(change), match, (PackageError, ConfigError))


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("package.json", b'{"format": 1', "not whole"),
        ("package.json", b"[]", "a package of format None"),
        (ADAPTER, b"", "has changed"),
        (ADAPTER, None, "is missing"),
        ("evil.pkl", b"cos\nsystem", "'evil.pkl' is no file of this package"),
        ("base/model/modeling.py", b"import os", "is no file of this package"),
    ],
)
def test_spoilt_files_are_refused(spoilt, name, content, match):
    folder = spoilt()
    (folder / name).unlink() if content is None else (folder / name).write_bytes(content)
    refused(folder, match)


def test_a_link_is_refused(spoilt, tmp_path):
    folder = spoilt()
    (folder / "cluster/router.json").rename(tmp_path / "router.json")
    (folder / "cluster/router.json").symlink_to(tmp_path / "router.json")
    refused(folder, "a link lies in the package")


def test_an_adapter_of_another_shape_is_refused(spoilt):
    def change(tree):
        tree["settings"]["adapter"]["rank"] = 4

    refused(spoilt(change), "of shape", ModelError)


def test_the_base_may_lie_elsewhere_and_must_be_the_same(run, packaged, tmp_path):
    base = tmp_path / "base"
    write_package(run.settings, run.artefacts, str(tmp_path / "package"), base_at=str(base))
    assert not (tmp_path / "package/base/model").exists()
    refused(tmp_path / "package", "the base of this package is not here", MissingFileError)
    shutil.copytree(packaged / "base/model", base)
    assert open_package(str(tmp_path / "package"))[1].base.path == str(base)
    (base / "config.json").write_text((base / "config.json").read_text() + " ")
    refused(tmp_path / "package", "not the base that the adapters were trained on")


def test_nothing_is_written_over(run, packaged):
    with pytest.raises(ConfigError, match="something lies here"):
        write_package(run.settings, run.artefacts, str(packaged))
