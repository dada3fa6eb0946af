"""Clusters that cannot carry the run, or must not be trusted with it."""

from __future__ import annotations

import socket

import pytest
from ray.data import DataContext
from spoil import ENVIRONMENT, INGEST, Case, nothing, until

from thinkrec.distributed.placement import RESOURCE_TIMEOUT, await_room
from thinkrec.distributed.session import ray_session  # the real one, before a fixture replaces it
from thinkrec.errors import EnvironmentFault

FORMS = {
    "a dashboard": ("http://127.0.0.1:8265", "address of a dashboard"),
    "a port missing": ("127.0.0.1", "no port"),
    "a client's address": ("ray://127.0.0.1:10001", "Ray Client"),
    "no address": ("127.0.0.1:gcs", "not the address of a Ray cluster"),
}
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
    monkeypatch.setattr("thinkrec.distributed.session.ray_session", ray_session)
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)


@pytest.mark.parametrize("words", STRANGERS.values(), ids=STRANGERS)
def test_a_cluster_of_strangers_without_a_token_is_refused(real_session, refused, words):
    refused(Case(nothing, words, "no token protects it", ENVIRONMENT))


def test_an_address_from_the_environment_is_looked_at_too(real_session, refused, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.1.2.3:6379")
    refused(Case(nothing, INGEST, "no token protects it", ENVIRONMENT))


@pytest.mark.parametrize(("address", "says"), FORMS.values(), ids=FORMS)
def test_an_address_that_is_none_is_refused(real_session, refused, address, says):
    refused(Case(nothing, until("ingest", f"ray.address={address}"), says))


def test_a_dead_address_is_refused_at_once(real_session, refused):
    with socket.create_server(("127.0.0.1", 0)) as server:
        dead = f"127.0.0.1:{server.getsockname()[1]}"
    refused(Case(nothing, until("ingest", f"ray.address={dead}"), "no Ray cluster answers", ENVIRONMENT))


def test_a_step_of_ray_data_waits_for_its_first_room_and_then_says_what_there_is(ray_cluster):
    context = DataContext.get_current()
    await_room("a step")
    before = context.get_config(RESOURCE_TIMEOUT)
    context.set_config(RESOURCE_TIMEOUT, 0.5)
    try:
        with pytest.raises(EnvironmentFault, match=r"0\.5 s .*without room for a step: 9 CPU and 1 GPU of one node") as caught:
            await_room("a step", num_cpus=9, num_gpus=1)
    finally:
        context.set_config(RESOURCE_TIMEOUT, before)
    assert "8 CPU, 0 GPU" in str(caught.value)
    await_room("the next step")


@pytest.mark.parametrize(("words", "says"), TOO_SMALL.values(), ids=TOO_SMALL)
def test_a_cluster_that_could_never_hold_the_group_is_refused(ray_cluster, refused, words, says):
    refused(Case(nothing, words, says, ENVIRONMENT))
