"""A run file of which only some keys may be read, so that no stage reads a setting that its row of the table does not name.

A setting read but not named would decide a result and change no key: the stale artefact would be taken for the new one.
"""

from __future__ import annotations

from collections.abc import Collection

from pydantic import BaseModel


class UnlistedSetting(AssertionError):
    """A stage read a setting that its row of the table does not name."""


class View:
    """A section of the run file, or all of it, whose fields other than `keys` ("train.loss", "prompt") cannot be read.

    Methods and properties are those of the whole section, so what is dumped for workers is whole; a pickled view stays one.
    """

    def __init__(self, section: BaseModel, keys: Collection[str], path: str = "") -> None:
        self._section, self._keys, self._path = section, tuple(keys), path

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        value = getattr(self._section, name)
        if name not in type(self._section).model_fields:
            return value
        below = [key.partition(".")[2] for key in self._keys if key.partition(".")[0] == name]
        if not below:
            raise UnlistedSetting(f"{self._path}{name}: name it among `reads` of the stage, or among `uses` if it decides no result")
        return value if "" in below else View(value, below, f"{self._path}{name}.")

    def __reduce__(self) -> tuple[object, ...]:
        return View, (self._section, self._keys, self._path)
