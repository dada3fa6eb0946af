"""Which Ray cluster an address means: the forms people write, whether it may be trusted, and whether anybody answers there."""

from __future__ import annotations

import ipaddress
import os
import socket
from threading import Thread
from urllib.parse import urlsplit

from thinkrec.config.run import Config
from thinkrec.errors import ConfigError, EnvironmentFault

CONNECT_S = 10.0  # until a port answers at all
FIX = (
    "write host:port of the cluster's head (Ray's port is 6379; an IPv6 host stands in brackets, [::1]:6379), auto for the one on this "
    "machine, or leave it empty for one of the run's own"
)


def cluster_address(config: Config) -> str:
    """host:port of the cluster that `ray.address`, or else RAY_ADDRESS, names; "" where the run starts a local one of its own.

    Raises ConfigError for what is no such address, EnvironmentFault for one that `check_address` refuses or an "auto" that finds nothing.
    """
    named = config.ray.address.strip() or os.environ.get("RAY_ADDRESS", "").strip()
    if named == "auto":
        named = _found_here()
    if named in ("", "local"):
        return ""
    scheme, host, port = _parts(named)
    check_address(named, config.ray.insecure_cluster)
    if scheme.startswith("http"):
        raise ConfigError("this is the address of a dashboard", named, f"{FIX}; to send the run as a job: ray.dashboard, thinkrec submit")
    if scheme:
        raise ConfigError(
            f"training does not go through {scheme}:// (Ray Client): the driver must be a process of the cluster",
            named,
            "start it on a node of the cluster with host:port, or send it there: thinkrec submit",
        )
    if port is None:
        raise ConfigError("this address has no port", named, FIX)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def check_address(address: str, insecure: bool = False) -> None:
    """Refuse a cluster that others could reach without a token: an open Ray dashboard is remote code execution (CVE-2023-48022).

    `insecure` is the operator's word that they know. Raises EnvironmentFault.
    """
    if address == "auto":  # Ray follows its own variable, else it looks on this machine
        address = os.environ.get("RAY_ADDRESS", "local")
    if insecure or address in ("auto", "local") or os.environ.get("RAY_AUTH_MODE") == "token":
        return
    host = _parts(address)[1]
    if not is_loopback(host):
        raise EnvironmentFault(
            f"the Ray cluster at {host!r} is not on this machine and no token protects it",
            "ray.address",
            "start it with RAY_AUTH_MODE=token and set that here too, or vouch for its network with --insecure-cluster",
        )


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches `host`; a name that is not `localhost` is taken to be elsewhere."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def await_answer(address: str, timeout_s: float) -> None:
    """Raises EnvironmentFault unless a Ray head answers at host:port in time; `ray.init` itself tries for minutes, then ends it all."""
    from ray._raylet import GcsClient  # type: ignore[attr-defined]  # as `ray health-check`; no public call has a time limit
    from ray.exceptions import RayError

    host, _, port = address.rpartition(":")
    fix, told = "start the cluster, name one that lives, or leave ray.address and RAY_ADDRESS empty", list[Exception]()
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=min(timeout_s, CONNECT_S)).close()
    except OSError as error:
        raise EnvironmentFault(f"no Ray cluster answers: {error}", address, fix) from None

    def ask() -> None:
        try:
            GcsClient(address=address)
        except (RayError, OSError, RuntimeError) as error:
            told.append(error)

    thread = Thread(target=ask, daemon=True)  # what listens there may be no Ray, and say nothing
    thread.start()
    thread.join(timeout_s)
    if thread.is_alive() or told:
        why = str(told[0]) if told else f"nothing in {timeout_s:g} s (ray.resource_timeout_s)"
        raise EnvironmentFault(f"what listens there does not answer as a Ray head: {why}", address, fix) from None


def _parts(address: str) -> tuple[str, str, int | None]:
    """Scheme ("" for none), host and port of an address; raises ConfigError for what has no such parts."""
    wrong = "this is not the address of a Ray cluster"
    if "@" in address:  # not repeated: it may hold a password
        raise ConfigError(f"{wrong}: it holds a user's name", "ray.address", FIX)
    try:
        split = urlsplit(address if "://" in address else f"//{address}")
        host, port = split.hostname or "", split.port
    except ValueError as error:
        raise ConfigError(f"{wrong}: {error}", address, FIX) from None
    is_bare = not split.scheme and ((address.count(":") > 1 and "[" not in address) or split.path or split.query or port == 0)
    if is_bare or not host or any(letter.isspace() for letter in address):
        raise ConfigError(wrong, address, FIX)
    return split.scheme, host, port


def _found_here() -> str:
    """What `auto` stands for: RAY_ADDRESS, else the cluster that runs on this machine."""
    from ray._private.services import get_ray_address_from_environment

    if named := os.environ.get("RAY_ADDRESS", "").strip().removeprefix("auto"):
        return named
    try:
        return str(get_ray_address_from_environment("auto", None))
    except ConnectionError:
        raise EnvironmentFault('ray.address is "auto" and no Ray cluster runs on this machine', "ray.address", FIX) from None
