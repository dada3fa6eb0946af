"""Fixtures shared by all tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest

from thinkrec.config import run as run_file
from thinkrec.config.run import Config
from thinkrec.distributed.session import ray_session
from thinkrec.events import Event

# A crowded machine is slow, not wrong.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """One local Ray cluster for all tests that need the real engine."""
    with ray_session(run_file.parse({"ray": {"num_cpus": 8}})):
        yield


@pytest.fixture
def reported() -> list[Event]:
    """What a stage reported, in order; pass `reported.append` as its reporter."""
    return []


@pytest.fixture
def make_config():
    """make_config({...}) parses a tree of tables on top of the defaults."""

    def make(tree: dict[str, Any] | None = None) -> Config:
        return run_file.parse(tree or {})

    return make
