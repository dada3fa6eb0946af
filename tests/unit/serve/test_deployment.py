"""Who changes a package when: one change at a time, and the next where replicas fail or never get ready. Without Ray Serve."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace

import pytest
from fastapi import HTTPException
from ray import serve

from thinkrec.serve import deployment
from thinkrec.serve.deployment import APP, READY_S, Replica, Served
from thinkrec.serve.options import ServeOptions


@pytest.fixture
def replica(monkeypatch) -> Replica:
    """One that serves a package `old`, with another before it; `deployed` lists the keys it put in the place of that."""
    deployed: list[str] = []
    monkeypatch.setattr(deployment, "open_package", lambda address, use_gpu: (None, None))
    monkeypatch.setattr(deployment, "Service", lambda ranker, package, kept: None)
    monkeypatch.setattr(serve, "get_replica_context", lambda: SimpleNamespace(replica_id=SimpleNamespace(unique_id="replica-0")))
    monkeypatch.setattr(deployment, "heard", lambda options, address: Served(address, f"key of {address}"))
    monkeypatch.setattr(deployment, "deploy", lambda options, current, previous, wait: deployed.append(current.key))
    made = Replica(ServeOptions(), Served("old", "key of old"), Served("older", "key of older"))
    made.deployed = deployed
    return made


@pytest.fixture
def state(monkeypatch):
    """state(status, age_s) is what Serve says from now on."""

    def tell(status: str, age_s: float = 0.0) -> None:
        app = SimpleNamespace(status=status, last_deployed_time_s=time.time() - age_s)
        monkeypatch.setattr(serve, "status", lambda: SimpleNamespace(applications={APP: app}))

    return tell


def refused(replica: Replica) -> bool:
    with pytest.raises(HTTPException) as caught:
        asyncio.run(replica.change("third"))
    return caught.value.status_code == 409


@pytest.mark.parametrize("told", [("DEPLOY_FAILED",), ("DEPLOYING", 2 * READY_S)])
def test_after_replicas_that_never_get_ready_the_next_package_is_taken(replica, state, told):
    state("RUNNING")
    assert asyncio.run(replica.change("new")) == "key of new"
    state("DEPLOYING")
    assert refused(replica)
    assert refused(replica)
    state(*told)
    assert asyncio.run(replica.rollback()) == "key of older"
    assert replica.deployed == ["key of new", "key of older"]


def test_a_new_replica_takes_a_change_while_those_before_it_end(replica, state):
    state("DEPLOYING")
    assert asyncio.run(replica.rollback()) == "key of older"


def test_of_two_changes_at_once_one_is_taken(replica, state):
    async def both():
        return await asyncio.gather(replica.change("new"), replica.change("third"), return_exceptions=True)

    first, second = asyncio.run(both())
    assert (first, second.status_code) == ("key of new", 409)
    assert replica.deployed == ["key of new"]
