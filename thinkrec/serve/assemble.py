"""`thinkrec package`: a finished run's model as one folder that serves without the run."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from thinkrec.artefacts.models import MODEL_FOLDER, base_model, write_pointer
from thinkrec.artefacts.package import FORMAT, MODEL_SUFFIXES, PARTS, BaseElsewhere, Package, hashes, write_package_file
from thinkrec.config.run import Config
from thinkrec.errors import ConfigError
from thinkrec.prompt.catalogue import ArtefactPaths
from thinkrec.prompt.template import TEMPLATE_VERSION
from thinkrec.recommend.ranker import Ranker
from thinkrec.serve import canary
from thinkrec.serve.opened import places_of
from thinkrec.store.address import refuse_full
from thinkrec.store.artefacts import Artefact, installed_versions, writable
from thinkrec.store.digests import fingerprint

STAGES = (*PARTS, "base")
SETTINGS = (  # what decides how a pair is scored, and nothing of the machine or the data that it was trained on
    ("run", ("seed",)),
    ("data", ("num_buckets",)),
    ("base", ("dtype",)),
    ("prompt", ()),
    ("prior", ()),
    ("adapter", ()),
    ("train", ("loss",)),
    ("recommend", ()),
    ("evaluate", ("fusion", "batch_tokens")),
)


def write_package(config: Config, artefacts: Mapping[str, Artefact], address: str, base_at: str = "") -> Package:
    """Write the package of a run, whose committed artefacts these are, to a folder or address that does not exist or is empty.

    base_at: where the base will lie on the machine that serves; without it the base is copied. What is told by the canary is measured on
    the package as it lies there. Raises ConfigError for a folder in use, PackageError for adapters that do nothing.
    """
    refuse_full(address)
    if "://" in base_at:
        raise ConfigError("a base that is left out lies in a folder of the machine that serves", base_at, "give its path there")
    with writable(address) as folder:
        for stage, patterns in PARTS.items():
            for pattern in patterns if stage in artefacts else ():
                _copy(artefacts[stage].path(), pattern, folder / stage)
        base = base_model(artefacts["base"].path())
        elsewhere = BaseElsewhere(base_at, fingerprint(base)) if base_at else None
        if elsewhere is None:
            _copy_model(base, folder / "base" / MODEL_FOLDER)
        (folder / "base").mkdir(exist_ok=True)
        write_pointer(folder / "base", base_at)
        parts = {**places_of(folder).uris} | ({"base": artefacts["base"].uri} if base_at else {})
        told = canary.measure(Ranker(config, ArtefactPaths(parts)))
        package = Package(FORMAT, TEMPLATE_VERSION, _settings(config), installed_versions(), hashes(folder), told, elsewhere)
        write_package_file(folder, package)
    return package


def _copy(source: Path, pattern: str, target: Path) -> None:
    for file in sorted(source.glob(pattern)):
        there = target / file.relative_to(source)
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, there)


def _copy_model(source: Path, target: Path) -> None:
    target.mkdir(parents=True)
    for file in sorted(source.iterdir()):
        if file.is_file() and file.suffix in MODEL_SUFFIXES:
            shutil.copyfile(file, target / file.name)


def _settings(config: Config) -> dict[str, object]:
    tree = config.model_dump(mode="json")
    return {section: {key: tree[section][key] for key in keys or tree[section]} for section, keys in SETTINGS}
