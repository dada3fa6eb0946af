"""Adapter-native checkpoints: trained weights, Adam moments and the step, in safetensors, whole and independent of the number of workers.

Data order and dropout are functions of (seed, step), so these three are all there is to resume: a resumed run equals the straight run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyarrow import fs

from thinkrec.errors import ArtefactError
from thinkrec.store import Store, open_root

STAGE = "checkpoints"
FILE = "state.safetensors"
PARTS = ("weight", "exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one training run, newest last; `name` carries the artefact key, so settings never mix."""

    root: str
    name: str

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        """Commit `{name: (weight, exp_avg, exp_avg_sq)}` after `step` optimizer steps, then drop all but the two newest."""
        from safetensors.torch import save_file

        tensors = {
            f"{part}/{name}": tensor.contiguous() for name, parts in state.items() for part, tensor in zip(PARTS, parts, strict=True)
        }
        with Store(self.root).create(STAGE, self._key(step), {}, {"step": step}) as draft:
            save_file(tensors, draft.folder / FILE)
        for old in self._steps()[:-2]:
            self._remove(old)

    def latest(self, at_most: int | None = None) -> tuple[int, dict[str, Any]] | None:
        """Step and state of the newest checkpoint (up to step `at_most`) whose files match its manifest, or None."""
        from safetensors.torch import load_file

        for step in reversed([step for step in self._steps() if at_most is None or step <= at_most]):
            try:
                artefact = Store(self.root).find(STAGE, self._key(step))
                if artefact is None:
                    continue  # killed while writing: there is no manifest
                artefact.verify()
            except ArtefactError:
                continue
            tensors = load_file(artefact.path(FILE))
            names = {key.partition("/")[2] for key in tensors}
            return step, {name: tuple(tensors[f"{part}/{name}"] for part in PARTS) for name in names}
        return None

    def clear(self) -> None:
        """Remove them all; the result they led to is committed."""
        for step in self._steps():
            self._remove(step)

    def _key(self, step: int) -> str:
        return f"{self.name}.{step:08d}"

    def _steps(self) -> list[int]:
        system, base = open_root(f"{self.root}/{STAGE}")
        found = system.get_file_info(fs.FileSelector(base, allow_not_found=True))
        names = [info.base_name.rpartition(".") for info in found if info.type == fs.FileType.Directory]
        return sorted(int(step) for name, _, step in names if name == self.name and step.isdigit())

    def _remove(self, step: int) -> None:
        system, base = open_root(f"{self.root}/{STAGE}/{self._key(step)}")
        system.delete_dir(base)
