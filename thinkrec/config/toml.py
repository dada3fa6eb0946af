"""Trees of tables, as run files and sweep files hold them: reading one, setting dotted keys in it, checking it against a closed table."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from datetime import date, time
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from thinkrec.config.section import Section
from thinkrec.errors import ConfigError, MissingFileError

Kind = TypeVar("Kind", bound=Section)


def read(path: str | Path, what: str = "run file", folder: str = "ray_jobs/recipes") -> dict[str, object]:
    """The tables of a TOML file as they stand; raises ConfigError or MissingFileError. `folder` is where files of this kind are shipped."""
    file = Path(path)
    if not file.is_file():
        raise MissingFileError(f"the {what} is not there", str(file), f"name an existing .toml file; {folder}/ has some")
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"this is not TOML: {error}", str(file), "fix the line named above") from None


def validate(kind: type[Kind], tree: dict[str, object], where: str, fix: str) -> Kind:
    """Check a tree of tables against the fields of any closed table."""
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        problems = [_explain(kind, item) for item in error.errors()]
    raise ConfigError("\n".join(problems), where, fix)


def split_override(override: str) -> tuple[str, object]:
    """Key and value of `a.b=value`, the value read as TOML where it is TOML."""
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"override {override!r} is not of the form a.b=value", "--set", "write for example --set train.experts.lr=1e-4")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text  # a bare word is a string: --set data.path=../folder
    if isinstance(value, date | time):
        value = text  # TOML knows dates, the run file writes them as strings: --set split.test_from=2002-04-01
    return key.strip(), value


def put(tree: dict[str, object], key: str, value: object, where: str) -> None:
    """Set the dotted `key` in a tree of tables; raises ConfigError where a value stands in the way."""
    *tables, last = key.split(".")
    for table in tables:
        below = tree.setdefault(table, {})
        if not isinstance(below, dict):
            raise ConfigError(f"{table!r} in {key!r} is a value, not a table", where, "thinkrec config show prints the tree")
        tree = below
    tree[last] = value


def flat(tree: Mapping[str, object], above: str = "") -> dict[str, object]:
    """Dotted keys of nested tables and their values."""
    found: dict[str, object] = {}
    for key, value in tree.items():
        found |= flat(value, f"{above}{key}.") if isinstance(value, Mapping) else {f"{above}{key}": value}
    return found


def _explain(kind: type[Section], problem: ErrorDetails) -> str:
    path = [str(part) for part in problem["loc"]]
    key = ".".join(path) or "the file"
    if problem["type"] == "value_error":
        return f"{key}: {problem['ctx']['error']}"
    if problem["type"] != "extra_forbidden":
        return f"{key}: {problem['msg']} (given: {problem['input']!r})"
    section: Any = kind
    for part in path[:-1]:
        inner = [one for one in get_args(section) if one is not Ellipsis]  # of dict[str, ...] and tuple[..., ...]
        section = inner[-1] if inner else section.model_fields[part].annotation
    near = difflib.get_close_matches(path[-1], section.model_fields, n=1, cutoff=0.5)
    hint = f"did you mean {'.'.join([*path[:-1], near[0]])!r}?" if near else f"known keys: {', '.join(section.model_fields)}"
    return f"{key}: unknown key; {hint}"
