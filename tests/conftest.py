"""Fixtures shared by all tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from thinkrec.config import run as run_file
from thinkrec.config.run import Config
from thinkrec.distributed.session import ray_session


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """One local Ray cluster for all tests that need the real engine."""
    with ray_session(run_file.parse({"ray": {"num_cpus": 8}})):
        yield


@pytest.fixture
def said() -> list[tuple[str, dict[str, Any]]]:
    """What a stage reported, in order; pass `lambda event, **fields: said.append((event, fields))` as its voice."""
    return []


@pytest.fixture
def make_config():
    """make_config({...}) parses a tree of tables on top of the defaults."""

    def make(tree: dict[str, Any] | None = None) -> Config:
        return run_file.parse(tree or {})

    return make
