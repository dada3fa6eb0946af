"""Settings that explain themselves: keys, tables, commented run files and docs/settings.md, all from the fields of the run file."""

from __future__ import annotations

import difflib
import inspect
import json
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from thinkrec.config.run import Config
from thinkrec.config.section import Section
from thinkrec.errors import ConfigError

WIDTH = 110
UNBOUNDED = 2**31  # the limit of a type, of no interest to people
TYPES = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false", "object": "table"}
LIMITS = {
    "minimum": "from {:g}",
    "exclusiveMinimum": "above {:g}",
    "maximum": "to {:g}",
    "exclusiveMaximum": "below {:g}",
    "multipleOf": "a multiple of {:g}",
    "minLength": "not empty",
    "pattern": "like `{}`",
}
PAGE_HEAD = """# Settings

Written by `thinkrec config reference`; the descriptions stand in `thinkrec/config/`. One key: `thinkrec config explain train.experts.lr`.
Every key of a run with its value: `thinkrec config show RUN_FILE --toml`. Override on the command line: `--set train.experts.lr=1e-4`.
"""


@dataclass(frozen=True)
class Key:
    """One key of the run file."""

    name: str  # dotted
    description: str
    allowed: str
    default: object = None  # of a list's tables: none
    is_needed: bool = False


@dataclass(frozen=True)
class Table:
    """One table of the run file and its own keys; a list of tables `is_list`."""

    name: str
    description: str
    keys: tuple[Key, ...]
    is_list: bool = False

    @property
    def header(self) -> str:
        return f"[[{self.name}]]" if self.is_list else f"[{self.name}]"


def tables() -> Iterator[Table]:
    """Every table, in the order of the run file."""
    defaults = Config()
    for name in Config.model_fields:
        yield from _tables(getattr(defaults, name), name)


def explain(name: str) -> str:
    """What a key or a table is; raises ConfigError with near names for one that is not there."""
    every = {table.name: table for table in tables()}
    keys = {key.name: key for table in every.values() for key in table.keys}
    if name in keys:
        shown = [_explained(keys[name])]
        return "\n".join([*shown, *([_listed(every[name])] if name in every else [])])
    if name in every:
        inner = [other.header for other in every.values() if other.name.startswith(f"{name}.") and other.name not in keys]
        return "\n".join([_listed(every[name]), *([f"  tables in it: {', '.join(inner)}"] if inner else [])])
    like = difflib.get_close_matches(name, [*keys, *every], n=3, cutoff=0.6)
    near = like if "." in name else [other for other in (*keys, *every) if other.rpartition(".")[2] == name] or like
    hint = f"; did you mean {', '.join(near)}?" if near else ""
    raise ConfigError(f"there is no key {name!r}{hint}", "config explain", f"tables: {', '.join(Config.model_fields)}")


def run_toml(config: Config) -> str:
    """A run file with every key of `config`, described, that loads to the same; what is not the default says so."""
    lines = ["# Every key of this run; those that are not the default say what that is."]
    for table in tables():
        if table.is_list:
            continue  # the list stands among the keys of its table
        lines += ["", *_comment(table.description), table.header]
        for key in table.keys:
            given = _lookup(config, key.name)
            changed = f"  # default: {toml_value(key.default)}" if given != key.default else ""
            lines += [*_comment(key.description), f"{key.name.rpartition('.')[2]} = {toml_value(given)}{changed}"]
    return "\n".join(lines) + "\n"


def page() -> str:
    """The reference page in Markdown."""
    lines = [PAGE_HEAD]
    for table in tables():
        lines += [f"## `{table.header}`", "", table.description, ""]
        if table.keys:
            lines += ["| key | what | values | default |", "|---|---|---|---|"]
            for key in table.keys:
                default = "must be given" if key.is_needed else f"`{toml_value(key.default)}`"
                lines.append(f"| `{_cell(key.name)}` | {_cell(key.description)} | {_cell(key.allowed)} | {_cell(default)} |")
            lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _tables(section: Section, name: str) -> Iterator[Table]:
    kind, inner, lists, keys = type(section), [], [], []
    schema = kind.model_json_schema()
    for field in kind.model_fields:
        value = getattr(section, field)
        if isinstance(value, Section):
            inner.append((value, f"{name}.{field}"))
        else:
            keys.append(_key(schema, field, f"{name}.{field}", value))
            lists += [(one, f"{name}.{field}") for one in get_args(kind.model_fields[field].annotation) if _is_section(one)]
    yield Table(name, _text(kind.__doc__), tuple(keys))
    for one, where in lists:
        own = one.model_json_schema()
        fields = one.model_fields.items()
        yield Table(where, _text(one.__doc__), tuple(_key(own, at, f"{where}.{at}", field.default) for at, field in fields), is_list=True)
    for value, where in inner:
        yield from _tables(value, where)


def _key(schema: Mapping[str, Any], field: str, name: str, default: object) -> Key:
    told = schema["properties"][field]
    return Key(name, _text(told.get("description")), _allowed(told), default, field in schema.get("required", ()))


def _allowed(told: Mapping[str, Any]) -> str:
    """A JSON schema in words: choices, or a type with its range."""
    if "enum" in told:
        return ", ".join(map(toml_value, told["enum"]))
    if "anyOf" in told:  # a name, or empty
        return ", or ".join("empty" if one.get("const") == "" else _allowed(one) for one in told["anyOf"])
    if told.get("type") == "array":
        return f"list of {'tables' if '$ref' in told['items'] else 'texts'}{', at least one' * bool(told.get('minItems'))}"
    limits = [words.format(told[name]) for name, words in LIMITS.items() if name in told and told[name] != UNBOUNDED]
    return ", ".join([TYPES[told["type"]], *limits])


def _explained(key: Key) -> str:
    default = "must be given" if key.is_needed else toml_value(key.default)
    return "\n".join([key.name, *_wrapped(key.description), f"  values:  {key.allowed}", f"  default: {default}"])


def _listed(table: Table) -> str:
    width = max((len(key.name) for key in table.keys), default=0)
    firsts = (f"  {key.name:<{width}}  {textwrap.shorten(key.description, WIDTH - 4 - width, placeholder=' ...')}" for key in table.keys)
    return "\n".join([table.header, *_wrapped(table.description), *firsts])


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)


def _text(doc: str | None) -> str:
    """A docstring as one paragraph."""
    return " ".join(inspect.cleandoc(doc or "").split())


def _lookup(config: Config, name: str) -> object:
    value: object = config
    for part in name.split("."):
        value = getattr(value, part)
    return value


def _is_section(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Section)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def toml_value(value: object) -> str:
    """A value as TOML writes it, on one line."""
    if isinstance(value, Section):
        value = value.model_dump()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        pairs = (
            f"{key if key.replace('_', '').isalnum() and key.isascii() else toml_value(key)} = {toml_value(one)}"
            for key, one in value.items()
        )
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(toml_value, value))}]"
    return repr(value)
