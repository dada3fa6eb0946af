"""The stage `cluster` of a refresh: everybody is routed again, by yesterday's router; nobody looks for new clusters.

A user moves where his vector does. Whose train rows came to a cluster or left it is counted: it decides which experts train on.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import polars as pl
import pyarrow as pa

from thinkrec.artefacts.clusters import (
    NO_CLUSTER,
    copy_sample,
    read_assignment,
    read_assignment_facts,
    write_assignment,
    write_assignment_facts,
)
from thinkrec.artefacts.vectors import read_bucket_vectors
from thinkrec.distributed.bucket_map import over_buckets
from thinkrec.events import Clustered, Warned
from thinkrec.job import Job
from thinkrec.routing.assign import COUNTS, assigned, describe
from thinkrec.routing.router import Router
from thinkrec.routing.sample import activity
from thinkrec.store.artefacts import fetch

KEPT = ("num_points", "inertia", "silhouette", "silhouettes")  # figures of the search for the clusters
MOVES = pa.schema(  # of one cluster: train rows
    [
        pa.field("cluster", pa.int16()),
        pa.field("num_before", pa.int64()),
        pa.field("num_arrived", pa.int64()),  # new ones, and those of users who came
        pa.field("num_left", pa.int64()),  # of users who went to another cluster
    ]
)
GROUPS = pa.schema(  # what routing.assign tells
    [
        pa.field("cluster", pa.int16()),
        pa.field("route", pa.string()),
        pa.field("in_train", pa.bool_()),
        *(pa.field(name, pa.int64()) for name in COUNTS),
    ]
)
REROUTED = pa.schema([(name, pa.list_(pa.struct(list(schema)))) for name, schema in (("groups", GROUPS), ("moves", MOVES))])


@dataclass(frozen=True)
class Move:
    """MOVES of a cluster, as the figures of the artefact hold it."""

    cluster: int
    num_before: int
    num_arrived: int
    num_left: int

    @property
    def share(self) -> float:
        """Of the rows that the expert has learned from."""
        return (self.num_arrived + self.num_left) / max(1, self.num_before)

    def since(self, earlier: Move) -> Move:
        """This move and an earlier one of the same cluster as one, of the rows that it had before the earlier."""
        arrived, left = self.num_arrived + earlier.num_arrived, self.num_left + earlier.num_left
        return replace(earlier, num_arrived=arrived, num_left=left)


def run(job: Job) -> None:
    """Fill the draft as the stage `cluster` does; inputs: ingest, encode, cluster-before, ingest-before. Figures: also `moves`."""
    before = job.inputs["cluster-before"]
    router, facts, out = Router.load(before.path()), read_assignment_facts(before.path()), job.draft.local()
    router.save(out)
    copy_sample(before.path(), out)
    write_assignment_facts(out, facts)
    places = {name.replace("-", "_"): job.inputs[name].uri for name in ("ingest", "encode", "cluster-before", "ingest-before")}
    buckets = range(facts.num_buckets)
    told = pl.concat(over_buckets(reroute, "the routing of users", buckets, **places, router=router, draft=job.draft.shared()))
    groups, moves = (told[name].explode(empty_as_null=False).struct.unnest() for name in ("groups", "moves"))
    kept = {name: before.figures[name] for name in KEPT if name in before.figures}
    job.draft.figures |= {"num_clusters": router.num_clusters, **kept, **describe(groups, router.num_clusters)}
    job.draft.figures["moves"] = [asdict(move) for move in summed(moves, router.num_clusters)]
    for warning in job.draft.figures["warnings"]:
        job.report(Warned(warning))
    job.report(Clustered(job.draft.figures))


def reroute(bucket: int, ingest: str, encode: str, cluster_before: str, ingest_before: str, router: Router, draft: str) -> pa.Table:
    """Write the ASSIGNMENT of a bucket's users; returns REROUTED."""
    people = activity(fetch(ingest), bucket)
    users, groups = assigned(people, read_bucket_vectors(fetch(encode), bucket), router)
    write_assignment(draft, bucket, users)
    now = people.join(pl.DataFrame(users.drop_columns("gates")), on="user_id", how="left")
    were = read_assignment(fetch(cluster_before), bucket, ["user_id", "cluster"])
    then = activity(fetch(ingest_before), bucket).join(were, on="user_id", how="left")
    told = {"groups": groups.to_pylist(), "moves": moves_of(then, now).to_dicts()}
    return pa.Table.from_pylist([told], schema=REROUTED)


def moves_of(then: pl.DataFrame, now: pl.DataFrame) -> pl.DataFrame:
    """MOVES of the clusters that these users (user_id, cluster, num_rows of train) were in and are in."""
    both = then.join(now, on="user_id", how="full", coalesce=True, suffix="_now").with_columns(
        pl.col("cluster", "cluster_now").fill_null(NO_CLUSTER), pl.col("num_rows", "num_rows_now").fill_null(0)
    )
    stayed = pl.col("cluster") == pl.col("cluster_now")
    were = pl.when(stayed).then(pl.col("num_rows")).otherwise(0)
    arrived = both.group_by(cluster="cluster_now").agg(
        num_before=pl.lit(0), num_arrived=(pl.col("num_rows_now") - were).sum(), num_left=pl.lit(0)
    )
    left = both.group_by("cluster").agg(
        num_before=pl.col("num_rows").sum(), num_arrived=pl.lit(0), num_left=(pl.col("num_rows") - were).sum()
    )
    kinds = pl.Schema({"cluster": pl.Int16, "num_before": pl.Int64, "num_arrived": pl.Int64, "num_left": pl.Int64})
    added = pl.concat([arrived.cast(kinds), left.cast(kinds)]).group_by("cluster").agg(pl.exclude("cluster").sum())
    return added.filter(pl.col("cluster") != NO_CLUSTER).sort("cluster")


def summed(moves: pl.DataFrame, num_clusters: int) -> list[Move]:
    """MOVES of all buckets as one a cluster, in their order."""
    rows = moves.group_by("cluster").agg(pl.exclude("cluster").sum()).rows_by_key("cluster", unique=True)
    return [Move(cluster, *rows.get(cluster, (0, 0, 0))) for cluster in range(num_clusters)]
