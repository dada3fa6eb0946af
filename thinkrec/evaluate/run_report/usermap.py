"""A flat map of the users: the two directions in which their vectors differ most, seen in the space where the router measures angles."""

from __future__ import annotations

import numpy as np

from thinkrec.artefacts.clusters import read_sample
from thinkrec.evaluate.run_report.schema import UserMap
from thinkrec.routing.router import Router, directions
from thinkrec.store.artefacts import Artefact

MAX_USERS = 800  # enough to see the shape, few enough for one drawing


def user_map(cluster: Artefact, seed: int) -> UserMap | None:
    """PCA of some users the clusters were found on (standardised, unit length): {points: [[x, y, cluster]], centroids: [[x, y]], ...}.

    `explained_share` is the share of the variance that the two axes show. None when there are fewer than three users.
    """
    sample = read_sample(cluster.path())
    table = sample.sample(min(MAX_USERS, sample.height), seed=seed).sort("user_id")
    if table.height < 3:
        return None
    router = Router.load(cluster.path())
    points = directions(table["vector"].to_numpy(), router.mean, router.scale)
    middle = points.mean(axis=0)
    _, strength, axes = np.linalg.svd(points - middle, full_matrices=False)
    axes = axes[:2] * np.sign(axes[:2][np.arange(2), np.abs(axes[:2]).argmax(axis=1)])[:, None]  # an axis may point either way: fix one
    places, centres = ((vectors - middle) @ axes.T for vectors in (points, router.centroids.astype(np.float64)))
    return {
        "points": [(round(x, 3), round(y, 3), int(number)) for (x, y), number in zip(places.tolist(), table["cluster"], strict=True)],
        "centroids": [(x, y) for x, y in np.round(centres, 3).tolist()],
        "num_users": cluster.figures["num_users_with_vector"],
        "num_shown": table.height,
        "explained_share": float((strength[:2] ** 2).sum() / (strength**2).sum()),
    }
