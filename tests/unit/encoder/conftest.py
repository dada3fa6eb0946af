"""The world of two tastes, as a log and as (train, valid, test) pairs."""

from __future__ import annotations

import pytest
from tastes import planted_log

from thinkrec.encoder.factors import Ratings
from thinkrec.encoder.log import TEST, TRAIN, VALID, Log


@pytest.fixture(scope="session")
def log() -> Log:
    return planted_log()


@pytest.fixture(scope="session")
def pairs(log) -> tuple[Ratings, ...]:
    return tuple(log.ratings(log.positions(split)) for split in (TRAIN, VALID, TEST))
