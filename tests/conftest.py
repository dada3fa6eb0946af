"""Fixtures shared by all tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from thinkrec import config as config_room
from thinkrec.config import Config
from thinkrec.ops.session import ray_session


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """One local Ray cluster for all tests that need the real engine."""
    with ray_session(config_room.parse({"ray": {"num_cpus": 8}})):
        yield


@pytest.fixture
def said() -> list[tuple[str, dict[str, Any]]]:
    """What a stage reported, in order; pass `lambda event, **fields: said.append((event, fields))` as its voice."""
    return []


@pytest.fixture
def make_config():
    """make_config({...}) parses a tree of tables on top of the defaults."""

    def make(tree: dict[str, Any] | None = None) -> Config:
        return config_room.parse(tree or {})

    return make
