"""Clusters that cannot carry the run, or must not be trusted with it."""

from __future__ import annotations

import pytest
from spoil import ENVIRONMENT, INGEST, Case, nothing, until

from thinkrec.ops.session import ray_session  # the real one, before a fixture replaces it

STRANGERS = {
    "an open cluster": until("ingest", "ray.address=10.1.2.3:6379"),
    "an open cluster with a name": until("ingest", "ray.address=ray://head.example:10001"),
    "an open cluster without IPv4": until("ingest", "ray.address=[2001:db8::1]:6379"),
}
TOO_SMALL = {
    "more workers than CPUs": (until("base", "train.num_workers=64"), "a group of 64 workers: 64 CPU"),
    "no GPU": (until("base", "train.use_gpu=true"), "2 CPU and 2 GPU; it has"),
}


@pytest.fixture
def real_session(folder, monkeypatch):
    monkeypatch.setattr("thinkrec.ops.session.ray_session", ray_session)
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)


@pytest.mark.parametrize("words", STRANGERS.values(), ids=STRANGERS)
def test_a_cluster_of_strangers_without_a_token_is_refused(real_session, refused, words):
    refused(Case(nothing, words, "no token protects it", ENVIRONMENT))


def test_an_address_from_the_environment_is_looked_at_too(real_session, refused, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.1.2.3:6379")
    refused(Case(nothing, INGEST, "no token protects it", ENVIRONMENT))


@pytest.mark.parametrize(("words", "says"), TOO_SMALL.values(), ids=TOO_SMALL)
def test_a_cluster_that_could_never_hold_the_group_is_refused(ray_cluster, refused, words, says):
    refused(Case(nothing, words, says, ENVIRONMENT))
