"""Which clusters are taken: this machine's, those with a token, and those the operator vouches for."""

from __future__ import annotations

import pytest

from thinkrec import config as config_room
from thinkrec.errors import ConfigError, EnvironmentFault
from thinkrec.ops.session import SPARE_CPUS, check_address, num_cpus_needed, worker_environment


@pytest.fixture(autouse=True)
def no_token(monkeypatch):
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


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
    assert "--insecure-cluster" in caught.value.mend
    check_address(address, insecure=True)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(EnvironmentFault):
        check_address(address)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    check_address(address)


def test_teachers_that_go_on_while_the_adapter_learns_need_room_beside_it():
    tree = {"engine": {"num_actors": 2}, "train": {"num_workers": 4, "num_groups": 1, "global_adapter": {"num_epochs": 2}}}
    needed = [num_cpus_needed(config_room.parse(tree | {"traces": {"start_share": share}})) for share in (1.0, 0.5)]
    assert needed == [4 + SPARE_CPUS, 6 + SPARE_CPUS]


def test_cards_are_allocated_in_segments_that_grow():
    environments = [worker_environment(config_room.parse({"train": {"use_gpu": use_gpu}})) for use_gpu in (True, False)]
    assert [one.get("PYTORCH_CUDA_ALLOC_CONF") for one in environments] == ["expandable_segments:True", None]


def test_auto_means_what_ray_makes_of_it(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.5:6379")
    with pytest.raises(EnvironmentFault):
        check_address("auto")


def test_the_run_file_takes_names_of_secrets_and_no_values():
    assert config_room.parse({"ray": {"secrets": ["AWS_SECRET_ACCESS_KEY"]}}).ray.secrets == ("AWS_SECRET_ACCESS_KEY",)
    for wrong in ("AWS_SECRET_ACCESS_KEY=abc", "hf_abcdef", ""):
        with pytest.raises(ConfigError, match=r"ray\.secrets"):
            config_room.parse({"ray": {"secrets": [wrong]}})


def test_a_password_in_the_run_folder_is_refused_and_not_repeated():
    with pytest.raises(ConfigError, match=r"run\.dir holds a user name") as caught:
        config_room.parse({"run": {"dir": "s3://KEY:planted-secret@bucket/runs"}})
    assert "planted-secret" not in str(caught.value)
    assert config_room.parse({"run": {"dir": "s3://bucket/a@b"}}).run.dir == "s3://bucket/a@b"
