"""report.json holds what the schema says, no more and no less."""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Any, NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict

import pytest
from planted import report_of

from thinkrec.evaluate.run_report.schema import REPORT_VERSION, Portrait, Report, Response

PORTRAIT = {"cluster": 0, "num_users": 1, "num_likes": 2}


def misfits(value: Any, kind: Any, where: str = "report") -> list[str]:
    """Where a JSON value is not of this type."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return []
    if origin is NotRequired:
        return misfits(value, inner[0], where)
    if origin in (Union, types.UnionType):
        return min((misfits(value, one, where) for one in inner), key=len)
    if is_typeddict(kind):
        if not isinstance(value, dict):
            return [where]
        hints = get_type_hints(kind, include_extras=True)
        required = {name for name, hint in hints.items() if kind.__total__ and get_origin(hint) is not NotRequired}
        wrong = [f"{where}.{name}" for name in (required - value.keys()) | (value.keys() - hints.keys())]
        return wrong + [text for name in hints.keys() & value.keys() for text in misfits(value[name], hints[name], f"{where}.{name}")]
    if origin is tuple:
        return [] if isinstance(value, list) and len(value) == len(inner) else [where]
    if isinstance(value, list) and origin is not None and not issubclass(origin, Mapping):
        return [text for at, one in enumerate(value) for text in misfits(one, inner[0], f"{where}[{at}]")]
    if isinstance(value, dict) and origin is not None and issubclass(origin, Mapping):
        return [text for name, one in value.items() for text in misfits(one, inner[1], f"{where}.{name}")]
    return [] if isinstance(value, int | float if kind is float else kind if origin is None else ()) else [where]


def test_the_report_of_a_run_is_what_the_schema_says(judged):
    report = report_of(judged)
    assert misfits(report, Report) == []
    assert report["report_version"] == REPORT_VERSION == 2


@pytest.mark.parametrize(
    ("value", "kind", "wrong"),
    [
        (PORTRAIT, Portrait, ["report.keywords"]),
        (PORTRAIT | {"cluster": "0", "keywords": []}, Portrait, ["report.cluster"]),
        (
            {"cluster": 0, "num_users": 1, "num_likes": 2, "keywords": [{"keyword": "war", "lift": 1}]},
            Portrait,
            ["report.keywords[0].num_likes"],
        ),
        ({"num_rows": 1, "cited": None, "other": 0.5, "difference": None, "more": 1}, Response, ["report.more"]),
    ],
)
def test_the_check_finds_what_is_missing_wrong_or_new(value, kind, wrong):
    assert misfits(value, kind) == wrong
