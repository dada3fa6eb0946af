"""FAISS on the device: k-means, and exact look-ups that must agree with torch's."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from gpu import device
from gpu.bench import Bench

NUM_QUERIES, NUM_FOUND, NUM_ITERATIONS = 1000, 10, 10


def measure(bench: Bench) -> dict[str, Any]:
    import faiss

    sizes, on_card = bench.sizes, device.kind() == "cuda"
    if on_card and not (hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus()):
        return {"skipped": "this faiss is built without a GPU"}
    points = np.random.default_rng(0).normal(size=(sizes.num_points, sizes.dim)).astype(np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    begun = time.perf_counter()
    kmeans = faiss.Kmeans(
        sizes.dim, sizes.num_centroids, niter=NUM_ITERATIONS, spherical=True, seed=0, gpu=on_card, max_points_per_centroid=10**6
    )
    kmeans.train(points)
    clustered_s = time.perf_counter() - begun
    index = faiss.IndexFlatIP(sizes.dim)
    if on_card:
        resources = faiss.StandardGpuResources()  # must live as long as the index
        index = faiss.index_cpu_to_gpu(resources, 0, index)
    index.add(points)
    queries = points[:NUM_QUERIES]
    searched_s = device.seconds(lambda: index.search(queries, NUM_FOUND), sizes.budget_s / 2)
    _, found = index.search(queries, NUM_FOUND)
    known = torch.from_numpy(queries).to(device.kind()) @ torch.from_numpy(points).to(device.kind()).T
    agree = np.mean(np.sort(found) == np.sort(known.topk(NUM_FOUND).indices.cpu().numpy()))
    result = {
        "num_points": sizes.num_points,
        "dim": sizes.dim,
        "kmeans_s": round(clustered_s, 3),
        "queries_per_s": round(len(queries) / searched_s, 1),
        "agreement": round(float(agree), 4),
    }
    return result if agree > 0.99 else result | {"error": "look-ups differ from torch's"}
