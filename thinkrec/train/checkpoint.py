"""Adapter-native checkpoints: trained weights, Adam moments and the step, whole and independent of the number of workers.

Data order and dropout are functions of (seed, step), so these three are all there is to resume: a resumed run equals the straight run. A
checkpoint is an artefact: its tensors are safetensors, and its manifest, written last, holds the step and the run it is of.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pyarrow import fs

from thinkrec.distributed.failures import patiently
from thinkrec.errors import ArtefactError
from thinkrec.events import CheckpointRefused
from thinkrec.journal import Journal
from thinkrec.store.address import list_folder
from thinkrec.store.artefacts import Artefact, Store

if TYPE_CHECKING:
    from torch import Tensor

STAGE = "checkpoints"
STATE_FILE = "state.safetensors"
FORMAT = 1
PARTS = ("weight", "exp_avg", "exp_avg_sq")
TrainState = Mapping[str, "tuple[Tensor, ...]"]  # the tensors PARTS by parameter name, on the host


@dataclass(frozen=True)
class Checkpoints:
    """The `num_kept` newest checkpoints of one training run; `name` carries the artefact key, so settings never mix.

    While the storage is away, reading and writing wait for it, up to `wait_s`.
    """

    root: str
    name: str
    num_kept: int = 2
    wait_s: float = 0.0

    def save(self, step: int, state: TrainState) -> None:
        """Commit `{name: (weight, exp_avg, exp_avg_sq)}` after `step` optimizer steps, then drop all but the newest ones."""
        patiently(lambda: self._write(step, state), self.wait_s)

    def latest(self, start: TrainState, at_most: int | None = None) -> int:
        """Step of the newest sound checkpoint (up to step `at_most`) whose tensors are shaped as those of `start`; 0 if there is none.

        One that was cut off by a kill is passed over; one that is damaged, foreign or of a newer format is, too, and the journal says why.
        """
        return patiently(lambda: self._newest(start, at_most), self.wait_s)

    def load(self, step: int, start: TrainState) -> TrainState:
        """The state that was saved at a step that `latest` found; `start` names its parameters."""
        state = patiently(lambda: read_state(self._find(step).path(STATE_FILE))[1], self.wait_s)
        return {name: state[name] for name in start}

    def clear(self) -> None:
        """Remove them all; the result they led to is committed."""
        for step in self._steps():
            Store(self.root).remove(STAGE, self._key(step))

    def _write(self, step: int, state: TrainState) -> None:
        with Store(self.root).create(STAGE, self._key(step), {}, {"format": FORMAT, "run": self.name, "step": step}) as draft:
            write_state(draft.local() / STATE_FILE, step, state)
        for old in self._steps()[: -self.num_kept]:
            Store(self.root).remove(STAGE, self._key(old))

    def _newest(self, start: TrainState, at_most: int | None) -> int:
        for step in reversed([step for step in self._steps() if at_most is None or step <= at_most]):
            try:
                artefact = Store(self.root).find(STAGE, self._key(step))
                if artefact is not None:  # else killed while writing: there is no manifest
                    _check(artefact, start)
                    return step
            except ArtefactError as error:
                Journal(self.root)(CheckpointRefused(self._key(step), error.what, error.where))
        return 0

    def _find(self, step: int) -> Artefact:
        artefact = Store(self.root).find(STAGE, self._key(step))
        if artefact is None:
            raise ArtefactError("a checkpoint disappeared while it was being loaded", self._key(step), "run the same command again")
        return artefact

    def _key(self, step: int) -> str:
        return f"{self.name}.{step:08d}"

    def _steps(self) -> list[int]:
        names = [info.base_name.rpartition(".") for info in list_folder(f"{self.root}/{STAGE}") if info.type == fs.FileType.Directory]
        return sorted(int(step) for name, _, step in names if name == self.name and step.isdigit())


def write_state(path: Path, step: int, state: TrainState) -> None:
    """Write the state of a training after `step` optimizer steps as safetensors; raises OSError."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors = {f"{part}/{name}": one.contiguous() for name, parts in state.items() for part, one in zip(PARTS, parts, strict=True)}
    try:
        save_file(tensors, path, {"step": str(step)})
    except SafetensorError as error:
        raise OSError(str(error)) from error  # the only way it fails here, and failures.py knows the system's words


def read_state(path: Path) -> tuple[int, TrainState]:
    """Step and state that `write_state` wrote."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        step = int((file.metadata() or {}).get("step", 0))
        names = [key.removeprefix(f"{PARTS[0]}/") for key in file.keys() if key.startswith(f"{PARTS[0]}/")]  # noqa: SIM118 - no dict
        return step, {name: tuple(file.get_tensor(f"{part}/{name}") for part in PARTS) for name in names}


def _check(artefact: Artefact, start: TrainState) -> None:
    """Raises ArtefactError if a checkpoint's files do not match its manifest, or its tensors those of `start`."""
    from safetensors import SafetensorError, safe_open

    written = artefact.manifest["settings"].get("format")
    if written != FORMAT:
        raise ArtefactError(f"a checkpoint of format {written}, this program reads {FORMAT}", artefact.uri, "use the program that wrote it")
    artefact.verify()
    try:
        with safe_open(artefact.path(STATE_FILE), framework="pt") as file:
            found = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118 - the file is no dict
    except (SafetensorError, FileNotFoundError) as error:
        raise ArtefactError(f"the tensors of a checkpoint cannot be read: {error}", artefact.uri, "delete that folder") from None
    if found != {f"{part}/{name}": tuple(one.shape) for name, parts in start.items() for part, one in zip(PARTS, parts, strict=True)}:
        raise ArtefactError("the tensors of a checkpoint are not those of this training", artefact.uri, "delete that folder")
