"""A router fitted on user vectors: who gets one expert, who a mixture of experts, and who the adapter for all."""

import tempfile
from collections import Counter

import numpy as np

from thinkrec import Router, RouterSettings, fit_router
from thinkrec.config.model import ClusterSection

rng = np.random.default_rng(0)
tastes = rng.normal(size=(4, 16))
vectors = rng.dirichlet([0.3] * 4, size=2000) @ tastes + 0.2 * rng.normal(size=(2000, 16))  # of your own users: any encoder's

router, figures = fit_router(vectors, ClusterSection(num_clusters=4), seed=0)
print(f"{router.num_clusters} clusters of {figures['num_points']} users, silhouette {figures['silhouette']:.2f}")
print(f"the rule: {router.settings}")

second, first = np.sort(router.weights(vectors))[:, -2:].T
clear, torn = (first - second).argmax(), (first - second).argmin()
for name, vector in (("the clearest taste", vectors[clear]), ("torn between two", vectors[torn]), ("no taste at all", router.mean)):
    gates = router.gates(vector[None])[0]
    print(f"{name:<20} experts {np.round(gates[:-1], 2)}  adapter for all {gates[-1]:.0f}")


def shares(router: Router) -> str:
    """How many users take which route."""
    gates = router.gates(vectors)
    alone = np.count_nonzero(gates[:, :-1], axis=1)
    counts = Counter("global" if gate == 1 else "expert" if number == 1 else "mixture" for gate, number in zip(gates[:, -1], alone))
    return ", ".join(f"{counts[name] / len(gates):.0%} {name}" for name in ("expert", "mixture", "global"))


print(f"by the paper's rule   {shares(router)}")
softer = Router(router.centroids, router.mean, router.scale, RouterSettings(temperature=0.3))
print(f"with softer weights   {shares(softer)}")

with tempfile.TemporaryDirectory() as folder:
    softer.save(folder)
    print(f"saved and loaded      {shares(Router.load(folder))}")
