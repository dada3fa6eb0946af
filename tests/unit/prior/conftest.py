"""The planted log and its prior, fitted once."""

from __future__ import annotations

import pytest
from planted_tastes import SETTINGS, make_planted

from thinkrec.prior.fit import fit_prior


@pytest.fixture(scope="session")
def planted():
    return make_planted()


@pytest.fixture(scope="session")
def prior(planted):
    rows = planted.rows
    part = rows.ratings(60)
    return fit_prior(lambda: [part], rows, planted.content, SETTINGS, 0)
