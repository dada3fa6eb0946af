"""The stage `cluster`: find clusters of train users, then stream every user through the router.

Writes the router and the files of artefacts/clusters.py. FAISS trains on a sample that fits in memory; the assignment is one pass of Ray
Data over the vectors, by the same router that serves, so that a user's training cluster and the expert serving it cannot differ (D4).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from thinkrec.artefacts.clusters import ASSIGNMENT_FOLDER, NO_CLUSTER, assignment_table, read_assignment, write_sample
from thinkrec.artefacts.ingest import read_users, scan_interactions
from thinkrec.artefacts.tables import write_table
from thinkrec.artefacts.vectors import read_facts, read_vector_ids, scan_vectors, vectors_file
from thinkrec.config.model import ClusterSection
from thinkrec.distributed.placement import await_room
from thinkrec.errors import DataError
from thinkrec.events import Clustered, Warned
from thinkrec.job import Job
from thinkrec.routing import cohesion, kmeans
from thinkrec.routing.router import Router, RouterSettings, directions, routes
from thinkrec.store.address import open_root


def run(job: Job) -> None:
    """Fill the draft with the router and everybody's assignment."""
    ingest, encode = job.inputs["ingest"], job.inputs["encode"]
    settings, seed = job.config.cluster, job.config.run.seed
    activity = train_activity(ingest.path())
    most = (settings.num_clusters or settings.max_clusters) * settings.max_points_per_centroid
    users, sample = sample_vectors(encode.path(), activity, most, seed)
    router, figures = fit_router(sample, settings, seed, read_facts(encode.uri).has_bias, encode.key)
    router.save(job.draft.local())
    write_sample(job.draft.local(), users.to_arrow().cast(pa.string()))
    stream(router, vectors_file(encode.uri, "users"), job.draft.shared())
    write_unknown(ingest.path(), encode.path(), router.num_clusters, job.draft.shared())
    job.draft.figures |= figures | describe(read_assignment(job.draft.shared()), activity, router.num_clusters)
    for warning in job.draft.figures["warnings"]:
        job.report(Warned(warning))
    job.report(Clustered(job.draft.figures))


def train_activity(ingest: Path) -> pl.DataFrame:
    """(user_id, num_rows) of every user with train rows, sorted by user."""
    rows = scan_interactions(ingest).filter(pl.col("split") == "train")
    return rows.group_by("user_id").agg(num_rows=pl.len()).sort("user_id").collect()


def sample_vectors(encode: Path, activity: pl.DataFrame, most: int, seed: int) -> tuple[pl.Series, NDArray[np.float32]]:
    """At most `most` train users with their vectors (n, d), the same for the same seed; users who are not in train never count (D5).

    Raises DataError when no train user has a vector, which means that the ids are written differently.
    """
    table = scan_vectors(encode, "users")
    known = table.select("id").join(activity.lazy(), left_on="id", right_on="user_id", how="semi").collect().sort("id")
    if known.is_empty():
        users, ids = activity["user_id"].head(1).to_list(), table.select("id").head(1).collect()["id"].to_list()
        what = f"none of {activity.height} train users has a vector: users look like {users}, ids like {ids}"
        raise DataError(what, "encode: users.parquet", "write ids in encoder.users_path as in the interactions")
    chosen = known.sample(min(most, known.height), seed=seed)
    sample = table.join(chosen.lazy(), on="id", how="semi").collect().sort("id")
    return sample["id"], sample["vector"].to_numpy()


def fit_router(
    vectors: NDArray[Any], settings: ClusterSection | None = None, seed: int = 42, has_bias: bool = False, vectors_key: str = ""
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


def stream(router: Router, vectors_uri: str, draft_uri: str) -> None:
    """Route every row of `vectors_uri` into the assignment, in batches; the files' names differ between runs, their rows do not."""
    import ray.data

    await_room("the routing of users")
    (source, vectors), (target, draft) = open_root(vectors_uri), open_root(draft_uri)
    routed = ray.data.read_parquet(vectors, filesystem=source).map_batches(
        route_batch, batch_format="pyarrow", fn_kwargs={"router": router}
    )
    routed.write_parquet(f"{draft}/{ASSIGNMENT_FOLDER}", filesystem=target, compression="zstd")


def route_batch(batch: pa.Table, router: Router) -> pa.Table:
    """vector_columns rows -> assignment_columns rows."""
    vectors = pl.Series(batch["vector"]).to_numpy()
    return assignment_table(batch["id"].combine_chunks(), router.hard(vectors), router.gates(vectors))


def write_unknown(ingest: Path, encode: Path, num_clusters: int, draft_uri: str) -> None:
    """Users of the data set without a vector: no cluster, and the global adapter alone."""
    users, known = read_users(ingest), read_vector_ids(encode, "users")
    unknown = users.filter(~users.is_in(known.implode())).sort()
    gates = np.tile(np.eye(num_clusters + 1)[-1], (len(unknown), 1))
    table = assignment_table(pa.array(unknown.to_list(), pa.string()), np.full(len(unknown), NO_CLUSTER, np.int16), gates)
    write_table(f"{draft_uri}/{ASSIGNMENT_FOLDER}/without_vector.parquet", table)


def describe(assignment: pl.DataFrame, activity: pl.DataFrame, num_clusters: int) -> dict[str, Any]:
    """Sizes, routing shares and Cohen's d over train users; routing shares over everybody."""
    trained = assignment.join(activity, on="user_id", how="inner", maintain_order="left").filter(pl.col("cluster") != NO_CLUSTER)
    cluster = trained["cluster"].to_numpy()
    sizes = np.bincount(cluster, minlength=num_clusters).tolist()
    difference = cohesion.group_difference(trained["num_rows"].to_numpy(), cluster, num_clusters)
    return {
        "sizes": sizes,
        "routes_train_users": _route_shares(trained),
        "routes_all_users": _route_shares(assignment),
        "num_users_without_vector": assignment.filter(pl.col("cluster") == NO_CLUSTER).height,
        "cohens_d": [[d if np.isfinite(d) else None for d in row] for row in difference.tolist()],
        "cohens_d_max": max(difference[np.isfinite(difference)].tolist(), default=None),
        "warnings": cohesion.imbalance(sizes),
    }


def _route_shares(assignment: pl.DataFrame) -> dict[str, float]:
    taken = routes(assignment["gates"].to_numpy())
    return {route: float((taken == route).mean()) for route in ("expert", "global", "mixture")}
