"""The serving package: all that serving needs of a run, in the layout of its artefacts, and package.json.

STAGE/...        of each stage in PARTS the files that serving reads; nothing that only training or the report reads
base/model/      the base, unless it lies elsewhere on the machine that serves
package.json     Package: settings, the SHA-256 of every file, and what the packaged model must say (the canary); written last
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from thinkrec.artefacts.adapters import ADAPTER_FOLDER, EXPERTS_FOLDER, PROJECTOR_FILE
from thinkrec.artefacts.clusters import ASSIGNMENT_FILE, ASSIGNMENT_FOLDER
from thinkrec.artefacts.ingest import COUNTS_FILE, FINGERPRINT_FILE, ITEMS_FILE
from thinkrec.artefacts.keywords import KEYWORDS_FILE
from thinkrec.artefacts.models import MODEL_FOLDER
from thinkrec.artefacts.prior import FITTED_FILE, NUMBERS_FILE
from thinkrec.artefacts.scores import MODEL_WEIGHT_FILE
from thinkrec.artefacts.vectors import FACTS_FILE, ITEM_VECTORS_FILE, USERS_FOLDER
from thinkrec.errors import PackageError
from thinkrec.store.address import write_json
from thinkrec.store.artefacts import digest

PACKAGE_FILE, FORMAT = "package.json", 1
PARTS: Mapping[str, tuple[str, ...]] = {  # stage -> files of its artefact that serving reads
    "ingest": (ITEMS_FILE, COUNTS_FILE, FINGERPRINT_FILE, "interactions/*/*.parquet"),
    "encode": (f"{USERS_FOLDER}/*/*.parquet", ITEM_VECTORS_FILE, FACTS_FILE),
    "cluster": ("router.*", ASSIGNMENT_FILE, f"{ASSIGNMENT_FOLDER}/*/*.parquet"),
    "keywords": (KEYWORDS_FILE,),
    "prior": (NUMBERS_FILE, FITTED_FILE),
    "global": (f"{ADAPTER_FOLDER}/adapter_*",),
    "projector": (PROJECTOR_FILE,),
    "experts": (f"{EXPERTS_FOLDER}/*/adapter_*",),
    "score": (MODEL_WEIGHT_FILE,),
}
# Tables, tensors and JSON; of a base also what its tokenizer is written in. Nothing that is code or a pickle.
SUFFIXES = (".parquet", ".safetensors", ".json")
MODEL_SUFFIXES = (*SUFFIXES, ".model", ".txt", ".jinja")
AGAIN = "make the package again with `thinkrec package`, or copy it again"
BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Canary:
    """Scores of each user with each item, user by user: by the `base` alone, by each adapter alone, and as they are `served`."""

    user_ids: list[str]
    item_ids: list[str]
    scores: dict[str, list[float]]


@dataclass(frozen=True)
class BaseElsewhere:
    """A base that is not in the package: where it lies on the machine that serves, and its fingerprint (store/digests.py)."""

    path: str
    fingerprint: str


@dataclass(frozen=True)
class Package:
    """What package.json says; `files` are the SHA-256 of all others by their names."""

    format: int
    template_version: int
    settings: dict[str, object]
    versions: dict[str, str]
    files: dict[str, str]
    canary: Canary
    base: BaseElsewhere | None = None

    @property
    def key(self) -> str:
        """A digest of all that is in it."""
        return digest(asdict(self))[:16]


def write_package_file(folder: Path, package: Package) -> None:
    """Write package.json."""
    write_json(f"{folder}/{PACKAGE_FILE}", asdict(package))


def read_package_file(folder: Path, template_version: int) -> Package:
    """package.json of a package whose prompts are of this version; raises PackageError for any other file."""
    from pydantic import TypeAdapter, ValidationError
    from pydantic_core import from_json

    file = folder / PACKAGE_FILE
    try:
        tree = from_json(file.read_bytes())
    except ValueError as error:
        raise PackageError(f"{PACKAGE_FILE} is not whole: {error}", str(file), AGAIN) from None
    found = tree.get("format") if isinstance(tree, dict) else None
    if found != FORMAT:
        raise PackageError(f"a package of format {found!r}, this version of thinkrec opens {FORMAT}", str(file), AGAIN)
    if tree.get("template_version") != template_version:
        what = f"its model was trained on prompts of template {tree.get('template_version')!r}, this version writes {template_version}"
        raise PackageError(what, str(file), "serve it with the version of thinkrec that made it, or train and package again")
    try:
        return TypeAdapter(Package).validate_python(tree)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise PackageError(f"{PACKAGE_FILE} is not that of a package: {where}: {first['msg']}", str(file), AGAIN) from None


def check_files(folder: Path, files: Mapping[str, str]) -> None:
    """Raise PackageError unless exactly these files lie in the folder, each with its SHA-256, none of them code, a pickle or a link."""
    for name in files:
        _check_name(folder, name)
    there = set(_names(folder)) - {PACKAGE_FILE}
    if foreign := sorted(there - files.keys()):
        raise PackageError(f"{foreign[0]!r} is no file of this package", str(folder), "remove it, or make the package again")
    for name, sha256 in files.items():
        if name not in there:
            raise PackageError("a file of the package is missing", f"{folder}/{name}", AGAIN)
        if sha256_of(folder / name) != sha256:
            raise PackageError("a file of the package has changed", f"{folder}/{name}", AGAIN)


def sha256_of(file: Path) -> str:
    """SHA-256 of a file."""
    hasher = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(BLOCK_BYTES):
            hasher.update(block)
    return hasher.hexdigest()


def hashes(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file in the folder by its name."""
    return {name: sha256_of(folder / name) for name in sorted(_names(folder))}


def _check_name(folder: Path, name: str) -> None:
    path = PurePosixPath(name)
    is_plain = name == str(path) and not path.is_absolute() and ".." not in path.parts and "\\" not in name and "\0" not in name
    if not is_plain:
        raise PackageError(f"{name[:140]!r} leads out of the package", f"{folder}/{PACKAGE_FILE}", AGAIN)
    if path.suffix not in (MODEL_SUFFIXES if path.parts[:2] == ("base", MODEL_FOLDER) else SUFFIXES):
        raise PackageError(f"{name[:140]!r} is no table, no tensors and no JSON", str(folder), "a package holds no code and no pickles")


def _names(folder: Path) -> Iterator[str]:
    """The names of all files below the folder; a link is a file that nobody packaged."""
    for place, folders, files in os.walk(folder):
        for name in (*files, *(one for one in folders if os.path.islink(os.path.join(place, one)))):
            if os.path.islink(os.path.join(place, name)):
                raise PackageError("a link lies in the package", os.path.join(place, name), "put the file itself there")
            yield os.path.relpath(os.path.join(place, name), folder).replace(os.sep, "/")
