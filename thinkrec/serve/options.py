"""How a package is served: what `thinkrec serve` takes, and the bounds of a request."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from thinkrec.errors import ConfigError, EnvironmentFault

MAX_ID_CHARACTERS = 512
MAX_HISTORY, MAX_CANDIDATES, MAX_TOP, MAX_EXPLAINED = 1000, 1000, 100, 5
MAX_BODY_BYTES = 2**20
LEAST_KEY_CHARACTERS = 16


@dataclass(frozen=True)
class ServeOptions:
    """num_queued: requests that wait at most in one replica; more are shed. num_pairs: pairs of user and item that are scored at once.

    deadline_s: a request that has waited so long is dropped. history_mib: keys and values of users' histories that a replica keeps for
    their next requests, those not asked for longest leave first, and anybody's after history_s seconds without a request; 0 keeps none.
    key_sha256: of the key that requests must show; empty demands none.
    """

    num_replicas: int = 1
    num_gpus: float = 0.0  # of a replica
    num_queued: int = 64
    num_pairs: int = 512
    deadline_s: float = 10.0
    history_mib: int = 256
    history_s: float = 300.0
    key_sha256: str = ""

    def admits(self, key: str) -> bool:
        """Whether a request with this key is answered; takes the same time for every wrong key."""
        return not self.key_sha256 or hmac.compare_digest(sha256_of_key(key), self.key_sha256)


def sha256_of_key(key: str) -> str:
    """What replicas know of a key: the key itself stays where it was read."""
    return hashlib.sha256(key.encode()).hexdigest()


def read_key(variable: str, host: str, environment: Mapping[str, str]) -> str:
    """The digest of the key in the variable of this name; "" without a variable, which only this machine's own address allows.

    Raises ConfigError for another address without a key, EnvironmentFault for a variable that is not set or holds too short a key.
    """
    if not variable:
        if not _is_loopback(host):
            fix = "name a variable that holds a key: --key-env THINKREC_KEY; or serve on 127.0.0.1"
            raise ConfigError(f"others can reach {host}, and no key is asked for", "--host", fix)
        return ""
    key = environment.get(variable, "")
    if len(key) < LEAST_KEY_CHARACTERS:
        what = f"the variable {variable} holds a key of {len(key)} characters" if key else f"the variable {variable} is not set"
        raise EnvironmentFault(what, "--key-env", f"set it to {LEAST_KEY_CHARACTERS} random characters or more")
    return sha256_of_key(key)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
