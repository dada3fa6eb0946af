"""How fast are users routed, and does whoever routes some of them need more memory where there are more users?

* Nearest centroid, which is the cluster a user trains, against FAISS's IndexFlatIP over the same centroids alone, which knows neither mean
  nor scale; in memory, and streamed from Parquet with the reading in the time.
* The gates of all K experts against the same formulas in float64 over the whole table at once, as the router had them first.
* Peak memory of a process that reads one bucket's interactions, vectors and gates: of 10^5 users, and of ten times as many in ten times as
  many buckets.

One thread. All arms see the same users turn about after an equality check; each is timed by its best round, in process time.

    OMP_NUM_THREADS=1 python benchmarks/routing.py            print the figures as JSON
    OMP_NUM_THREADS=1 python benchmarks/routing.py --store    and keep them in benchmarks/baselines/routing.json
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from _baseline import best_seconds, show
from numpy.typing import NDArray

from thinkrec.artefacts.buckets import buckets_of
from thinkrec.artefacts.clusters import AssignmentFacts, assignment_table, write_assignment, write_assignment_facts
from thinkrec.artefacts.ingest import COUNTS, COUNTS_FILE, INTERACTIONS, ITEMS_FILE, write_bucket, write_fingerprint
from thinkrec.artefacts.tables import write_table
from thinkrec.artefacts.vectors import EncoderFacts, vector_table, write_bucket_vectors, write_facts
from thinkrec.routing.nearest import nearest_centroid
from thinkrec.routing.router import Router

DIM, NUM_USERS, NUM_ROUNDS = 64, 200_000, 5
SIZES = (8, 64, 256)  # numbers of clusters
MOST_WIDE = 6_400_000  # weights of the users that the float64 path is timed on, which takes some 50 bytes for each
USERS_PER_BUCKET, ROWS_PER_USER = 12_500, 8
READ_A_BUCKET = """
import re, sys
from pathlib import Path
from thinkrec.artefacts.vectors import read_vectors
from thinkrec.data.interactions import Interactions
from thinkrec.prompt.catalogue import ArtefactPaths
from thinkrec.routing.gate_table import Routing
folder = sys.argv[1]
log = Interactions.load(Path(folder), buckets=[1])
routing = Routing(ArtefactPaths({"cluster": folder}))
gates = [routing.gates(variant, log.user_ids) for variant in routing.variants]
vectors = read_vectors(Path(folder), "users", log.user_ids)
print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""


def planted(num_clusters: int) -> tuple[Router, NDArray[np.float32]]:
    """A router, and users around its centroids: one expert, mixtures and the global adapter all occur."""
    rng = np.random.default_rng(num_clusters)
    centroids = rng.normal(size=(num_clusters, DIM))
    centroids /= np.linalg.norm(centroids, axis=1, keepdims=True)
    mean, scale = rng.normal(size=DIM).astype(np.float32), rng.uniform(0.5, 2, DIM).astype(np.float32)
    near = centroids[rng.integers(num_clusters, size=NUM_USERS)] * rng.uniform(0, 3, (NUM_USERS, 1)) + 0.19 * rng.normal(
        size=(NUM_USERS, DIM)
    )
    return Router(centroids.astype(np.float32), mean, scale), (near * scale + mean).astype(np.float32)


def wide_gates(router: Router, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The gates in float64, a step over the whole table after the other."""
    rule, one_hot = router.settings, np.eye(router.num_clusters + 1)
    z = (vectors.astype(np.float64) - router.mean) / router.scale
    length = np.linalg.norm(z, axis=1, keepdims=True)
    unit = np.divide(z, length, out=np.zeros_like(z), where=length > 0)
    logits = unit @ router.centroids.astype(np.float64).T / rule.temperature
    logits -= logits.max(axis=1, keepdims=True)
    log_weights = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    weights = np.exp(log_weights)
    entropy = -(weights * log_weights).sum(axis=1)
    alone = weights.max(axis=1) > rule.expert_threshold + rule.expert_slope / router.num_clusters
    general = ~alone & (entropy >= rule.entropy_share * np.log(router.num_clusters))
    gates = np.hstack([weights, np.zeros((len(weights), 1))])
    gates[alone] = one_hot[weights[alone].argmax(axis=1)]
    gates[general] = one_hot[-1]
    return gates.astype(np.float32)


def compare(num_clusters: int, folder: Path) -> dict[str, float]:
    """Users a second of every arm, and their ratios."""
    router, vectors = planted(num_clusters)
    few = vectors[: MOST_WIDE // num_clusters]
    parts = router.centroids, router.mean, router.scale
    index = faiss.IndexFlatIP(DIM)
    index.add(router.centroids)
    cosines = ((few.astype(np.float64) - router.mean) / router.scale) @ router.centroids.T.astype(np.float64)
    assert (nearest_centroid(few, *parts) == cosines.argmax(axis=1)).all()
    difference = float(np.abs(router.gates(few) - wide_gates(router, few)).max())
    assert difference <= 1e-6, f"gates differ by {difference}"
    file = folder / f"{num_clusters}.parquet"
    write_table(file, vector_table([f"u{n}" for n in range(NUM_USERS)], vectors))

    def streamed() -> None:
        for batch in pq.ParquetFile(file).iter_batches(2**16, columns=["vector"], use_threads=False):
            nearest_centroid(batch.column(0).flatten().to_numpy().reshape(-1, DIM), *parts)

    seconds = best_seconds(
        {
            "index": lambda: index.search(vectors, 1),
            "nearest": lambda: nearest_centroid(vectors, *parts),
            "streamed": streamed,
            "gates": lambda: router.gates(vectors),
            "wide": lambda: wide_gates(router, few),
        },
        NUM_ROUNDS,
    )
    seconds["wide"] *= NUM_USERS / len(few)
    return {
        "num_clusters": num_clusters,
        **{f"{name}_users_per_s": round(NUM_USERS / value) for name, value in seconds.items()},
        "nearest_to_index": round(seconds["index"] / seconds["nearest"], 2),
        "streamed_to_index": round(seconds["index"] / seconds["streamed"], 2),
        "gates_to_float64": round(seconds["wide"] / seconds["gates"], 2),
        "gates_differ_by": difference,
    }


def peak_mib(num_users: int, folder: Path) -> float:
    """Of a process that reads one bucket of so many users."""
    num_buckets = num_users // USERS_PER_BUCKET
    write_artefacts(folder, num_users, num_buckets)
    command = [sys.executable, "-c", READ_A_BUCKET, str(folder)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) / 1024


def write_artefacts(folder: Path, num_users: int, num_buckets: int) -> None:
    """What ingest, encode and cluster leave of so many users, in one folder."""
    rng = np.random.default_rng(0)
    names = np.array([f"user {n:08d}" for n in range(num_users)], object)
    bucket_of_user = buckets_of(names.tolist(), num_buckets)
    write_table(folder / ITEMS_FILE, pa.table({"item_id": [f"i{n:03d}" for n in range(500)]}))
    write_table(folder / COUNTS_FILE, COUNTS.empty_table())
    write_fingerprint(folder, {"num_buckets": num_buckets})
    write_facts(folder, EncoderFacts("mf", True, DIM, num_users, 500, num_buckets))
    write_assignment_facts(folder, AssignmentFacts(8, num_buckets))
    for bucket in range(num_buckets):
        users = names[bucket_of_user == bucket]
        owner = np.repeat(users, ROWS_PER_USER)
        place = np.tile(np.arange(ROWS_PER_USER), len(users))
        columns = [owner, [f"i{n:03d}" for n in rng.integers(500, size=len(owner))], place, pa.nulls(len(owner), pa.float32())]
        columns += [rng.integers(2, size=len(owner)).astype(np.int8), ["train"] * len(owner), np.arange(len(owner))]
        write_bucket(str(folder), bucket, pa.table(columns, schema=INTERACTIONS))
        write_bucket_vectors(folder, bucket, vector_table(users.tolist(), rng.normal(size=(len(users), DIM)).astype(np.float32)))
        gates = rng.dirichlet(np.ones(9), len(users)).astype(np.float32)
        write_assignment(
            folder, bucket, assignment_table(pa.array(users, pa.string()), gates[:, :8].argmax(axis=1).astype(np.int16), gates)
        )


def main() -> None:
    """Print, and with --store keep, the figures."""
    faiss.omp_set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        speed = [compare(size, Path(folder)) for size in SIZES]
        few, many = (peak_mib(num_users, Path(folder) / str(num_users)) for num_users in (100_000, 1_000_000))
    memory = {"mib_of_100000_users": round(few, 1), "mib_of_1000000_users": round(many, 1), "ratio": round(many / few, 3)}
    found = {"question": __doc__.splitlines()[0] if __doc__ else "", "measured_at": datetime.now(UTC).date().isoformat()}
    show(__file__, found | {"dim": DIM, "num_users": NUM_USERS, "speed": speed, "one_bucket": memory})


if __name__ == "__main__":
    main()
