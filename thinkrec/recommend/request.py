"""What is asked for: whose lists, how long, from which candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from thinkrec.artefacts.clusters import read_clusters
from thinkrec.artefacts.ingest import bucket_of
from thinkrec.config.run import Config
from thinkrec.errors import ConfigError
from thinkrec.recommend.filters import parts_of, read_ids
from thinkrec.store.artefacts import Artefact, digest
from thinkrec.store.digests import fingerprint

VERSION = 1  # raise it when lists change for the same run and options: those that were begun are then made anew


@dataclass(frozen=True)
class Request:
    """Options of `thinkrec recommend`; files as paths or addresses, empty where there is none.

    top: items of a list. explain: how many of them are explained. users: a file of user ids; bucket, cluster: those of one bucket or
    cluster. until_test: lists as of before test, for users who like something there, to be judged; sampled: also by how those likes stand
    among so many items drawn at random.
    """

    top: int = 10
    explain: int = 0
    users: str = ""
    bucket: int | None = None
    cluster: int | None = None
    candidates: str = ""
    allow: str = ""
    deny: str = ""
    until_test: bool = False
    sampled: int = 0

    def check(self, config: Config, num_buckets: int, num_clusters: int) -> None:
        """Raise ConfigError, MissingFileError or DataError for what can be seen before anything is loaded."""
        if self.top < 1:
            raise ConfigError(f"a list of {self.top} items is none", "--top", "give 1 or more")
        if self.top > config.recommend.num_candidates:
            what = f"a list of {self.top} items from {config.recommend.num_candidates} candidates"
            raise ConfigError(what, "--top", f"raise recommend.num_candidates to {self.top} or more")
        if self.sampled < 0 or (self.sampled and not self.until_test):
            raise ConfigError(f"likes among {self.sampled} items cannot be judged", "--sampled", "give 1 or more, and --judge")
        if not 0 <= self.explain <= self.top:
            raise ConfigError(f"{self.explain} of {self.top} items cannot be explained", "--explain", f"give 0 to {self.top}")
        for name, value, num in (("bucket", self.bucket, num_buckets), ("cluster", self.cluster, num_clusters)):
            if value is not None and not 0 <= value < num:
                raise ConfigError(f"there is no {name} {value}", f"--{name}", f"this run has {name}s 0 to {num - 1}")
        if self.candidates:
            parts_of(self.candidates, "user_id", "item_id")

    def users_by_bucket(self, num_buckets: int) -> dict[int, list[str]] | None:
        """The users of the file, sorted, in the buckets where a run would have them; None for everybody."""
        if not self.users:
            return None
        users = pl.DataFrame({"user_id": read_ids(self.users, "user_id")})
        bucket = [bucket_of(user, num_buckets) for user in users["user_id"]]
        parts = users.with_columns(bucket=pl.Series(bucket, dtype=pl.Int64)).partition_by("bucket", as_dict=True)
        return {int(bucket): part["user_id"].to_list() for (bucket,), part in parts.items()}

    def asked(self, users: Sequence[str], cluster: Path) -> list[str]:
        """Those of these users who are in the cluster that is asked for, or all; `cluster` is the folder of that artefact."""
        if self.cluster is None:
            return list(users)
        return [user for user, own in zip(users, read_clusters(cluster, users), strict=True) if own == self.cluster]

    def made_from(self, config: Config, artefacts: Mapping[str, Artefact]) -> dict[str, object]:
        """What decides the lists, for their key; which bucket is made first does not."""
        files = {name: getattr(self, name) for name in ("users", "candidates", "allow", "deny")}
        sampled = {"sampled": self.sampled} if self.sampled else {}  # without it lists keep the keys that they had before there was one
        return {
            "version": VERSION,
            "run": {stage: artefact.key for stage, artefact in artefacts.items()},
            "settings": config.recommend.model_dump(mode="json"),
            "options": {"top": self.top, "explain": self.explain, "cluster": self.cluster, "until_test": self.until_test} | sampled,
            "files": {name: path and fingerprint(path) for name, path in files.items()},
        }

    def key(self, config: Config, artefacts: Mapping[str, Artefact]) -> str:
        """The name of the lists, by what decides them."""
        return digest(self.made_from(config, artefacts))[:16]
