"""The stage `cluster`: find clusters of train users, then route every user, a bucket at a time.

Writes the router and the files of artefacts/clusters.py. FAISS trains on a sample that fits in memory; the assignment is one pass of Ray
Data over the buckets, by the same router that serves, so that a user's training cluster and the expert serving it cannot differ (D4). What
comes back to the driver is the sample and a few counts a bucket.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from thinkrec.artefacts.clusters import (
    NO_CLUSTER,
    AssignmentFacts,
    assignment_table,
    sample_columns,
    write_assignment,
    write_assignment_facts,
    write_sample,
)
from thinkrec.artefacts.ingest import read_users
from thinkrec.artefacts.vectors import read_bucket_vectors, read_facts
from thinkrec.config.model import ClusterSection
from thinkrec.distributed.bucket_map import over_buckets
from thinkrec.errors import DataError
from thinkrec.events import Clustered, Warned
from thinkrec.job import Job
from thinkrec.routing import cohesion, kmeans
from thinkrec.routing.router import Router, RouterSettings, directions, routes
from thinkrec.routing.sample import activity, sample_bucket
from thinkrec.store.artefacts import fetch

COUNTS = ("num_users", "num_rows", "squares")  # of a group of users: how many, their train rows, and the squares of these


def run(job: Job) -> None:
    """Fill the draft with the router and everybody's assignment."""
    ingest, encode = job.inputs["ingest"], job.inputs["encode"]
    settings, seed, facts = job.config.cluster, job.config.run.seed, read_facts(encode.uri)
    most = (settings.num_clusters or settings.max_clusters) * settings.max_points_per_centroid
    share = -(-most // facts.num_buckets)
    places = {"ingest": ingest.uri, "encode": encode.uri}
    found = list(over_buckets(draw, "the sample of users", range(facts.num_buckets), **places, num_users=share, seed=seed))
    if not any(part.height for part in found):
        raise _no_vectors(ingest.path(), encode.path(), facts.num_buckets)
    sample = pl.concat(found).sort("id")
    vectors = sample["vector"].to_numpy()
    router, figures = fit_router(vectors, settings, seed, facts.has_bias, encode.key)
    router.save(job.draft.local())
    chosen = sample.select(user_id="id", cluster=router.hard(vectors), vector="vector")
    write_sample(job.draft.local(), chosen.to_arrow().cast(sample_columns(vectors.shape[1])))
    write_assignment_facts(job.draft.local(), AssignmentFacts(router.num_clusters, facts.num_buckets))
    counts = over_buckets(assign, "the routing of users", range(facts.num_buckets), **places, router=router, draft=job.draft.shared())
    job.draft.figures |= figures | describe(pl.concat(counts), router.num_clusters)
    for warning in job.draft.figures["warnings"]:
        job.report(Warned(warning))
    job.report(Clustered(job.draft.figures))


def draw(bucket: int, ingest: str, encode: str, num_users: int, seed: int) -> pa.Table:
    """`sample_bucket` of artefacts at any address."""
    return sample_bucket(fetch(ingest), fetch(encode), bucket, num_users, seed).to_arrow()


def _no_vectors(ingest: Path, encode: Path, num_buckets: int) -> DataError:
    """Ids that do not meet are written differently."""
    ids = (read_bucket_vectors(encode, bucket, ["id"])["id"] for bucket in range(num_buckets))
    some = next((found[0] for found in ids if len(found)), None)
    user = next((people[0] for bucket in range(num_buckets) if len(people := read_users(ingest, [bucket]))), None)
    what = f"no train user has a vector: users look like {user!r}, ids like {some!r}"
    return DataError(what, "encode: users", "write ids in encoder.users_path as in the interactions")


def fit_router(
    vectors: NDArray[np.floating], settings: ClusterSection | None = None, seed: int = 42, has_bias: bool = False, vectors_key: str = ""
) -> tuple[Router, dict[str, Any]]:
    """A router for vectors like these (n, d), and the figures of its k-means; raises DataError as `kmeans` does.

    `has_bias`: the last number of a vector is a bias, which says how much a user likes and not what, so it is left out.
    """
    vectors, settings = np.asarray(vectors), settings or ClusterSection()
    mean, scale = kmeans.standardise(vectors, has_bias)
    points = directions(vectors, mean, scale)
    silhouettes = {} if settings.num_clusters else kmeans.choose_num_clusters(points, settings, seed)
    found = kmeans.train(points, settings.num_clusters or next(iter(silhouettes)), settings, seed)
    rule = RouterSettings(settings.temperature, settings.expert_threshold, settings.expert_slope, settings.entropy_share)
    router = Router(found.values, mean, scale, rule, vectors_key)
    figures = {
        "num_clusters": router.num_clusters,
        "num_points": len(points),
        "inertia": found.inertia,
        "silhouette": kmeans.silhouette(points, found, seed),
        "silhouettes": silhouettes,
    }
    return router, figures


def assign(bucket: int, ingest: str, encode: str, router: Router, draft: str) -> pa.Table:
    """Write the ASSIGNMENT of a bucket's users; returns the COUNTS of its groups of users, see `describe`."""
    users, counts = assigned(activity(fetch(ingest), bucket), read_bucket_vectors(fetch(encode), bucket), router)
    write_assignment(draft, bucket, users)
    return counts


def assigned(people: pl.DataFrame, vectors: pl.DataFrame, router: Router) -> tuple[pa.Table, pa.Table]:
    """The ASSIGNMENT of users (`activity`) with these vectors, and the COUNTS of their groups."""
    strangers = people.join(vectors, left_on="user_id", right_on="id", how="anti")["user_id"]
    known, unknown = routed(vectors, router), without_vector(strangers, router.num_clusters)
    users = pa.concat_tables([known[0], unknown[0]])
    groups = pl.DataFrame(users.drop_columns("gates")).with_columns(route=np.concatenate([known[1], unknown[1]]))
    counted = groups.join(people, on="user_id", how="left").with_columns(pl.col("num_rows").fill_null(0))
    rows = pl.col("num_rows")
    counts = counted.group_by("cluster", "route", in_train=rows > 0).agg(
        num_users=pl.len().cast(pl.Int64), num_rows=rows.sum(), squares=(rows**2).sum()
    )
    return users, counts.to_arrow()


def routed(vectors: pl.DataFrame, router: Router) -> tuple[pa.Table, NDArray[np.str_]]:
    """(id, vector) -> ASSIGNMENT and the routes (n,)."""
    values = vectors["vector"].to_numpy() if vectors.height else np.zeros((0, len(router.mean)), np.float32)
    gates = router.gates(values)
    return assignment_table(vectors["id"].to_arrow().cast(pa.string()), router.hard(values), gates), routes(gates)


def without_vector(users: pl.Series, num_clusters: int) -> tuple[pa.Table, NDArray[np.str_]]:
    """Users without a vector: no cluster, and the global adapter alone."""
    gates = np.tile(np.eye(num_clusters + 1)[-1], (len(users), 1))
    cluster = np.full(len(users), NO_CLUSTER, np.int16)
    return assignment_table(users.to_arrow().cast(pa.string()), cluster, gates), routes(gates)


def describe(counts: pl.DataFrame, num_clusters: int) -> dict[str, Any]:
    """Sizes, routing shares and Cohen's d over train users; routing shares over everybody.

    counts: (cluster, route, in_train, *COUNTS), any number of rows a group.
    """
    trained = counts.filter(pl.col("in_train") & (pl.col("cluster") != NO_CLUSTER))
    clusters = pl.DataFrame({"cluster": np.arange(num_clusters, dtype=np.int16)})
    sums = clusters.join(trained.group_by("cluster").agg(pl.col(COUNTS).sum()), on="cluster", how="left", maintain_order="left").fill_null(
        0
    )
    sizes = sums["num_users"].to_list()
    difference = cohesion.group_difference(*(sums[name].to_numpy() for name in COUNTS))
    known = int(counts.filter(pl.col("cluster") != NO_CLUSTER)["num_users"].sum())
    return {
        "sizes": sizes,
        "routes_train_users": _route_shares(trained),
        "routes_all_users": _route_shares(counts),
        "num_users_with_vector": known,
        "num_users_without_vector": int(counts["num_users"].sum()) - known,
        "cohens_d": [[d if np.isfinite(d) else None for d in row] for row in difference.tolist()],
        "cohens_d_max": max(difference[np.isfinite(difference)].tolist(), default=None),
        "warnings": cohesion.imbalance(sizes),
    }


def _route_shares(counts: pl.DataFrame) -> dict[str, float]:
    taken = dict(counts.group_by("route").agg(pl.col("num_users").sum()).iter_rows())
    return {route: taken.get(route, 0) / sum(taken.values()) for route in ("expert", "global", "mixture")}
