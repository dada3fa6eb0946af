"""Which clusters an address may name: this machine's, those with a token, and those the operator vouches for; and in which forms."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from thinkrec.config import run as run_file
from thinkrec.distributed.address import await_answer, check_address, cluster_address
from thinkrec.errors import ConfigError, EnvironmentFault


@pytest.fixture(autouse=True)
def no_token(monkeypatch):
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def named(address: str, insecure: bool = False) -> str:
    return cluster_address(run_file.parse({"ray": {"address": address, "insecure_cluster": insecure}}))


@pytest.mark.parametrize("address", ["127.0.0.1:6379", "ray://localhost:10001", "[::1]:6379", "http://127.0.0.1:8265", "local", "auto"])
def test_this_machine_needs_no_token(address):
    check_address(address)


@pytest.mark.parametrize(
    "address",
    ["10.0.0.5:6379", "ray://head:10001", "http://ray-head-svc:8265", "127.0.0.1.example.org:6379", "[2001:db8::1]:6379", "0.0.0.0:1"],
)
def test_a_cluster_elsewhere_is_refused_without_a_token(address, monkeypatch):
    with pytest.raises(EnvironmentFault, match="no token") as caught:
        check_address(address)
    assert caught.value.exit_code == 3
    assert "--insecure-cluster" in caught.value.fix
    check_address(address, insecure=True)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(EnvironmentFault):
        check_address(address)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    check_address(address)


def test_auto_means_what_ray_makes_of_it(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.5:6379")
    with pytest.raises(EnvironmentFault):
        check_address("auto")


@pytest.mark.parametrize(
    ("address", "means"),
    [
        ("127.0.0.1:6379", "127.0.0.1:6379"),
        ("  127.0.0.1:6379 ", "127.0.0.1:6379"),
        ("localhost:6379", "localhost:6379"),
        ("[::1]:6379", "[::1]:6379"),
        ("", ""),
        ("  ", ""),
        ("local", ""),
    ],
)
def test_an_address_in_a_form_that_ray_takes(address, means, monkeypatch):
    assert named(address) == means
    if address.strip():
        monkeypatch.setenv("RAY_ADDRESS", "10.0.0.5:6379")  # what the run file names goes first
        assert named(address) == means
        monkeypatch.setenv("RAY_ADDRESS", address)
        assert named("") == named("auto") == means


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("127.0.0.1", "no port"),
        ("[::1]", "no port"),
        ("head", "no port"),
        ("::1", "in brackets"),
        ("2001:db8::1", "in brackets"),
        ("[::1:6379", "not the address of a Ray cluster"),
        ("127.0.0.1:63790000", "not the address of a Ray cluster"),
        ("127.0.0.1:gcs", "not the address of a Ray cluster"),
        ("127.0.0.1:0", "not the address of a Ray cluster"),
        (":6379", "not the address of a Ray cluster"),
        ("127.0.0.1:6379/", "not the address of a Ray cluster"),
        ("127.0.0.1 :6379", "not the address of a Ray cluster"),
        ("127.0.0.1:6379,127.0.0.1:6380", "not the address of a Ray cluster"),
        ("me:secret@head:6379", "not the address of a Ray cluster"),
        ("ray://127.0.0.1:10001", "Ray Client"),
        ("anyscale://mine", "a process of the cluster"),
        ("http://127.0.0.1:8265", "thinkrec submit"),
        ("https://127.0.0.1", "thinkrec submit"),
    ],
)
def test_any_other_form_is_refused_with_a_word_on_what_to_write(address, says, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    with pytest.raises(ConfigError, match=says) as caught:
        named(address)
    assert caught.value.fix
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ConfigError):
        named("")


def test_auto_takes_the_cluster_of_this_machine_or_says_that_there_is_none(monkeypatch):
    monkeypatch.setattr("ray._private.services.get_ray_address_from_environment", lambda address, folder: "127.0.0.1:6398")
    assert named("auto") == "127.0.0.1:6398"

    def none_here(address: str, folder: None) -> str:
        raise ConnectionError

    monkeypatch.setattr("ray._private.services.get_ray_address_from_environment", none_here)
    with pytest.raises(EnvironmentFault, match="no Ray cluster runs on this machine"):
        named("auto")


@pytest.fixture
def no_ray() -> Iterator[str]:
    """The address of a server that is no Ray head, but takes connections."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_whoever_is_no_head_is_given_up_in_time(no_ray):
    with pytest.raises(EnvironmentFault, match=r"nothing in 0\.5 s \(ray\.resource_timeout_s\)") as caught:
        await_answer(no_ray, 0.5)
    assert caught.value.where == no_ray


def test_a_dead_address_is_told_at_once():
    with socket.create_server(("127.0.0.1", 0)) as server:
        dead = f"127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(EnvironmentFault, match=r"no Ray cluster answers: .*refused"):
        await_answer(dead, 600.0)
