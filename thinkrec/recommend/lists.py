"""`thinkrec recommend`: the lists of all users, streamed over buckets; what is done stays done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass

from thinkrec.artefacts.ingest import known_fingerprint, read_items, read_num_buckets
from thinkrec.artefacts.recommendations import LISTS_FOLDER, BucketCounts, claim, read_counts
from thinkrec.config.run import Config
from thinkrec.distributed.bucket_map import over_buckets
from thinkrec.events import BucketListed, Listed, Noted
from thinkrec.job import Reporter
from thinkrec.prompt.catalogue import ArtefactPaths
from thinkrec.recommend.bucket import BucketRecommender, Task
from thinkrec.recommend.filters import allowed_items
from thinkrec.recommend.request import Request
from thinkrec.routing.router import Router
from thinkrec.score.stage import gpus_per_scorer, num_scorers
from thinkrec.store.artefacts import Artefact

Session = Callable[[Config], AbstractContextManager[None]]


@dataclass(frozen=True)
class Lists:
    """Lists that are made or to be made: where, of which buckets, and what the actors are handed."""

    config: Config
    artefacts: Mapping[str, Artefact]
    request: Request
    out: str
    key: str
    buckets: tuple[int, ...]  # that are asked for
    users: Mapping[int, list[str]] | None

    @classmethod
    def plan(cls, config: Config, artefacts: Mapping[str, Artefact], request: Request, out: str = "") -> Lists:
        """Check the request against a finished run; `out` is a folder or address, by default in the run's own folder."""
        num_buckets = read_num_buckets(artefacts["ingest"].path())
        request.check(config, num_buckets, Router.load(artefacts["cluster"].path()).num_clusters)
        key, users = request.key(config, artefacts), request.users_by_bucket(num_buckets)
        buckets = tuple(range(num_buckets)) if users is None else tuple(sorted(users))
        if request.bucket is not None:
            buckets = tuple(bucket for bucket in buckets if bucket == request.bucket)
        return cls(config, artefacts, request, out or f"{config.run.dir}/{LISTS_FOLDER}/{key}", key, buckets, users)

    def to_do(self) -> list[int]:
        """Buckets that are asked for and whose lists are not there."""
        there = set(self.done())
        return [bucket for bucket in self.buckets if bucket not in there]

    def done(self) -> list[int]:
        """Buckets that are asked for and whose lists are there."""
        return list(read_counts(self.out, self.buckets))

    def counts(self) -> BucketCounts:
        """Who was served, in the buckets that are asked for."""
        return BucketCounts.total(read_counts(self.out, self.buckets).values())

    def num_users(self) -> int | None:
        """How many users these buckets have, where that is known without reading them."""
        if self.request.cluster is not None or self.request.until_test or (self.users is None and self.request.bucket is not None):
            return None
        if self.users is not None:
            return sum(len(self.users[bucket]) for bucket in self.buckets)
        return known_fingerprint(self.artefacts["ingest"].path())["num_users"]

    def make(self, report: Reporter, session: Session) -> BucketCounts:
        """Make what is missing, one bucket an actor at a time; `session` is entered only if there is work."""
        request, ingest = self.request, self.artefacts["ingest"].path()
        allowed, unknown = allowed_items(read_items(ingest, ["item_id"])["item_id"].to_list(), request.allow, request.deny)
        for path, num_ids in unknown.items():
            if num_ids:
                report(Noted(f"{num_ids} ids of {path} are no items of this run"))
        claim(self.out, self.key, request.made_from(self.config, self.artefacts))
        if to_do := self.to_do():
            task = Task(request, allowed, self.users, self.out)
            with session(self.config):
                for bucket in _stream(to_do, self.config, ArtefactPaths({name: one.uri for name, one in self.artefacts.items()}), task):
                    report(BucketListed(bucket, len(self.buckets), asdict(read_counts(self.out, [bucket])[bucket])))
        counts = self.counts()
        report(Listed(self.out, asdict(counts)))
        return counts


def _stream(buckets: Sequence[int], config: Config, places: ArtefactPaths, task: Task) -> Iterator[int]:
    """The numbers of the buckets as their lists are there."""
    from ray.data import ActorPoolStrategy

    actors = ActorPoolStrategy(size=min(num_scorers(config), len(buckets)))
    what = "an actor that recommends"
    done = over_buckets(BucketRecommender, what, buckets, actors, gpus_per_scorer(config), config=config, places=places, task=task)
    yield from (bucket for table in done for bucket in table["bucket"])
