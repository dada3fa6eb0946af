"""Opening a serving package: every file and the canary are checked before anybody is served."""

from __future__ import annotations

from pathlib import Path

from thinkrec.artefacts.package import PACKAGE_FILE, PARTS, Package, check_files, read_package_file
from thinkrec.config.run import parse
from thinkrec.errors import MissingFileError, PackageError
from thinkrec.prompt.catalogue import ArtefactPaths, base_folder
from thinkrec.prompt.template import TEMPLATE_VERSION
from thinkrec.recommend.ranker import Ranker
from thinkrec.serve import canary
from thinkrec.store.address import exists
from thinkrec.store.artefacts import fetch
from thinkrec.store.digests import fingerprint


def fetch_package(address: str) -> tuple[Path, Package]:
    """The package in a folder or at an s3:// or gs:// address as a local folder, with every file checked.

    Raises MissingFileError where there is none, PackageError for one that is not whole, holds something else, or is of another version.
    """
    if not exists(f"{address}/{PACKAGE_FILE}"):
        raise MissingFileError("there is no serving package here", address, "give a folder that `thinkrec package` has written")
    folder = fetch(address)
    package = read_package_file(folder, TEMPLATE_VERSION)
    check_files(folder, package.files)
    return folder, package


def open_package(address: str, use_gpu: bool = False) -> tuple[Ranker, Package]:
    """The model of a package, checked file by file and by its canary: what scores otherwise than the package tells is not opened.

    Raises MissingFileError, and PackageError or ModelError that say what does not fit.
    """
    folder, package = fetch_package(address)
    ranker = _ranker(folder, package, use_gpu)
    canary.check(ranker, package.canary, address)
    return ranker, package


def places_of(folder: Path) -> ArtefactPaths:
    """Where the parts of a package lie."""
    return ArtefactPaths({stage: str(folder / stage) for stage in (*PARTS, "base") if stage != "prior" or (folder / stage).is_dir()})


def _ranker(folder: Path, package: Package, use_gpu: bool) -> Ranker:
    config = parse(package.settings, f"{folder}/{PACKAGE_FILE}")
    config = config.model_copy(update={"train": config.train.model_copy(update={"use_gpu": use_gpu})})
    places = places_of(folder)
    base = base_folder(places)
    if package.base is not None:
        if str(base) != package.base.path:
            raise PackageError("base.json and package.json name two bases", str(folder), "make the package again")
        if not base.is_dir():
            raise MissingFileError(
                "the base of this package is not here", str(base), "put the model folder there, or package it with the base"
            )
        if fingerprint(base) != package.base.fingerprint:
            raise PackageError("this is not the base that the adapters were trained on", str(base), "put the right model folder there")
    return Ranker(config, places)
