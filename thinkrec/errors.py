"""The one tree of errors that thinkrec raises on purpose.

Each class says what kind of hand can fix it, and its `exit_code` is the contract with schedulers (docs/design.md 9): 2 the user's input,
3 the environment, 4 the run itself. Each leaf is also the built-in a caller would expect. All of them cross Ray's process borders
(`__reduce__`).
"""

from __future__ import annotations


class ThinkrecError(Exception):
    """What went wrong, where (file, row, key), and how to fix it."""

    exit_code = 4

    def __init__(self, what: str, where: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what, self.where, self.fix = what, where, fix

    def __reduce__(self) -> tuple[type[ThinkrecError], tuple[str, str, str]]:
        return type(self), (self.what, self.where, self.fix)

    def __str__(self) -> str:
        return "\n".join(filter(None, [self.what, self.where and f"  where: {self.where}", self.fix and f"  fix:  {self.fix}"]))


class UserError(ThinkrecError):
    """The run file, the data or a path given by the user is wrong."""

    exit_code = 2


class ConfigError(UserError, ValueError):
    """A key or a value of the run file cannot be used."""


class MissingFileError(UserError, FileNotFoundError):
    """A file or folder the user named is not there."""


class DataError(UserError, ValueError):
    """Rows, columns or vectors break the contract of their table."""


class LeakError(DataError):
    """The leak audit found rows that would let a model see its own answers."""


class ModelError(UserError, ValueError):
    """A base model, tokenizer or adapter folder cannot be used."""


class PackageError(UserError, ValueError):
    """A serving package cannot be opened: it is not whole, not of this version, or does not score as it should."""


class EnvironmentFault(ThinkrecError, RuntimeError):
    """The cluster, the disk or an installed version cannot carry the run."""

    exit_code = 3


class ArtefactError(ThinkrecError, RuntimeError):
    """A stored artefact does not match its own manifest."""


class StageFailed(ThinkrecError, RuntimeError):
    """A stage stopped; the message names the command that resumes it."""


class Interrupted(StageFailed):
    """The run was told to end; what trained has saved a checkpoint."""


class NonFiniteLoss(ThinkrecError, ArithmeticError):
    """A loss or gradient became NaN or infinite; nothing was updated with it."""


class ExportRefused(ThinkrecError, RuntimeError):
    """An adapter did not pass the export gate."""
