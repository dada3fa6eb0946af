"""A session: what a local cluster holds, and what happens when Ray does not start or take us."""

from __future__ import annotations

import gc
import logging
import signal
import subprocess
import sys
from typing import Any

import pytest
import ray.cloudpickle
from ray.data import DataContext
from ray.exceptions import AuthenticationError

from thinkrec.config import run as run_file
from thinkrec.distributed.placement import RESOURCE_TIMEOUT
from thinkrec.distributed.session import HOOK, SPARE_CPUS, num_cpus_needed, ray_session, runtime_env, worker_environment
from thinkrec.errors import ConfigError, EnvironmentFault


@pytest.fixture(autouse=True)
def no_token(monkeypatch):
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def test_teachers_that_go_on_while_the_adapter_learns_need_room_beside_it():
    tree = {"engine": {"num_actors": 2}, "train": {"num_workers": 4, "num_groups": 1, "global_adapter": {"num_epochs": 2}}}
    needed = [num_cpus_needed(run_file.parse(tree | {"traces": {"start_share": share}})) for share in (1.0, 0.5)]
    assert needed == [4 + SPARE_CPUS, 6 + SPARE_CPUS]


def test_a_cluster_of_its_own_is_asked_for_by_name_and_sigterm_stays_ours(monkeypatch):
    """Without "local" Ray joins what `ray start` left behind on this machine; and it puts a SIGTERM handler of its own in our place."""
    asked = list[Any]()

    def init(**arguments: Any) -> None:
        asked.append(arguments)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(15))

    monkeypatch.setattr("ray.init", init)
    monkeypatch.setattr("ray.shutdown", lambda: None)
    before = signal.getsignal(signal.SIGTERM)
    with ray_session(run_file.parse({"ray": {"resource_timeout_s": 7.0}})):
        assert signal.getsignal(signal.SIGTERM) is before
        assert DataContext.get_current().get_config(RESOURCE_TIMEOUT) == 7.0
    assert asked[0]["address"] == "local"


def test_what_ray_data_says_of_an_error_that_is_raised_is_not_printed(monkeypatch, caplog):
    """It prints every error twice, each time with a traceback."""
    monkeypatch.setattr("ray.init", lambda **arguments: None)
    monkeypatch.setattr("ray.shutdown", lambda: None)
    with ray_session(run_file.parse({})):
        logging.getLogger("ray.data.exceptions").error("Full stack trace")
        logging.getLogger("ray.data.exceptions").warning("of interest")
    assert caplog.messages == ["of interest"]


@pytest.mark.parametrize("error", [RuntimeError("no room in /dev/shm"), ValueError("store too small"), AuthenticationError("no token")])
def test_a_ray_that_does_not_start_is_the_environments_fault(monkeypatch, error):
    def init(**arguments: Any) -> None:
        raise error

    monkeypatch.setattr("ray.init", init)
    with pytest.raises(EnvironmentFault, match="no local Ray starts here: ") as caught, ray_session(run_file.parse({})):
        pass
    assert str(error) in str(caught.value)


def test_cards_are_allocated_in_segments_that_grow():
    environments = [worker_environment(run_file.parse({"train": {"use_gpu": use_gpu}})) for use_gpu in (True, False)]
    assert [one.get("PYTORCH_CUDA_ALLOC_CONF") for one in environments] == ["expandable_segments:True", None]


def test_a_worker_collects_seldom_even_where_thinkrec_is_not_installed():
    """Ray's own processes start with the same environment, and would load our modules for it."""
    hook = ray.cloudpickle.dumps(runtime_env(run_file.parse({}))[HOOK])
    code = "import gc, pickle, sys; pickle.load(sys.stdin.buffer)(); print(gc.get_threshold()[0], 'thinkrec' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], input=hook, capture_output=True, check=True).stdout.decode().split()
    assert int(found[0]) > 100 * gc.get_threshold()[0]
    assert found[1] == "False"


def test_a_job_that_was_submitted_with_a_hook_of_its_own_keeps_it(monkeypatch):
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", '{"runtime_env": {"worker_process_setup_hook": "site.logging"}}')
    assert HOOK not in runtime_env(run_file.parse({}))
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", '{"runtime_env": {"working_dir": "."}}')
    assert HOOK in runtime_env(run_file.parse({}))


def test_the_run_file_takes_names_of_secrets_and_no_values():
    assert run_file.parse({"ray": {"secrets": ["AWS_SECRET_ACCESS_KEY"]}}).ray.secrets == ("AWS_SECRET_ACCESS_KEY",)
    for wrong in ("AWS_SECRET_ACCESS_KEY=abc", "hf_abcdef", ""):
        with pytest.raises(ConfigError, match=r"ray\.secrets"):
            run_file.parse({"ray": {"secrets": [wrong]}})


def test_a_password_in_the_run_folder_is_refused_and_not_repeated():
    with pytest.raises(ConfigError, match=r"run\.dir holds a user name") as caught:
        run_file.parse({"run": {"dir": "s3://KEY:planted-secret@bucket/runs"}})
    assert "planted-secret" not in str(caught.value)
    assert run_file.parse({"run": {"dir": "s3://bucket/a@b"}}).run.dir == "s3://bucket/a@b"
