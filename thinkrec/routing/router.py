"""Which adapter serves which user: the gates of docs/method.md 10, in the very space the clusters were found in (D4).

    w = softmax(cos(z(e_u), c_k) / temperature)            z(e) = (e - mean) / scale
    one expert   max w > expert_threshold + expert_slope / K          (looked at first)
    global       entropy(w) >= entropy_share * ln K, or the user has no vector (D5)
    mixture      otherwise, with weights w

All three are one row of K + 1 gates that sums to 1; the last gate is the global adapter. With K = 1 the rule itself says global for
everybody (w = 1 stays below 1.1, and 0 >= 0): one cluster is the run without experts.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from thinkrec.errors import ConfigError, DataError, MissingFileError
from thinkrec.store.address import read_json, write_json

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class RouterSettings:
    """The numbers of the rule above; these are the paper's, and the run file's section [cluster] has the same ones."""

    temperature: float = 0.1
    expert_threshold: float = 0.5
    expert_slope: float = 0.6
    entropy_share: float = 0.95

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ConfigError(f"a temperature of {self.temperature} makes no weights", "RouterSettings.temperature", "give one above 0")


def directions(vectors: NDArray[Any], mean: NDArray[Any], scale: NDArray[Any]) -> NDArray[np.float64]:
    """Unit rows (n, d) of z(e). An infinite scale leaves a dimension out; a user exactly at the mean stays a row of zeros."""
    z = (vectors.astype(np.float64) - mean) / scale
    length = np.linalg.norm(z, axis=1, keepdims=True)
    unit: NDArray[np.float64] = np.divide(z, length, out=np.zeros_like(z), where=length > 0)
    return unit


@dataclass(frozen=True, eq=False)
class Router:
    """Centroids with the rule above; NumPy only, so a scorer or a server needs nothing else."""

    centroids: Floats  # (K, d), unit rows of the space of `directions`
    mean: Floats  # (d,)
    scale: Floats  # (d,)
    settings: RouterSettings = RouterSettings()
    vectors_key: str = ""  # artefact key of the vectors this router understands

    def __post_init__(self) -> None:
        if self.centroids.ndim != 2 or not self.mean.shape == self.scale.shape == self.centroids.shape[1:]:
            shapes = f"centroids {self.centroids.shape}, mean {self.mean.shape}, scale {self.scale.shape}"
            raise DataError(f"the parts of a router do not fit together: {shapes}", "router", "expected (K, d), (d,), (d,)")

    @property
    def num_clusters(self) -> int:
        return len(self.centroids)

    def weights(self, vectors: NDArray[Any]) -> Floats:
        """(n, d) user vectors -> (n, K) softmax weights, before the rule. Raises DataError for a wrong shape or NaN."""
        return np.exp(self._log_weights(vectors, None)).astype(np.float32)

    def gates(self, vectors: NDArray[Any], known: NDArray[np.bool_] | None = None) -> Floats:
        """(n, d) user vectors -> (n, K + 1) gates; rows where `known` is False hold no vector and get the global adapter."""
        log_weights = self._log_weights(vectors, known)
        weights = np.exp(log_weights)
        entropy = -(weights * log_weights).sum(axis=1)
        rule = self.settings
        alone = weights.max(axis=1) > rule.expert_threshold + rule.expert_slope / self.num_clusters
        general = ~alone & (entropy >= rule.entropy_share * np.log(self.num_clusters))
        gates = np.hstack([weights, np.zeros((len(weights), 1))])
        one_hot = np.eye(self.num_clusters + 1)
        gates[alone] = one_hot[weights[alone].argmax(axis=1)]
        gates[general] = one_hot[-1]
        if known is not None:
            gates[~known] = one_hot[-1]
        return gates.astype(np.float32)

    def hard(self, vectors: NDArray[Any], known: NDArray[np.bool_] | None = None) -> NDArray[np.int16]:
        """(n, d) user vectors -> (n,) nearest centroid, the cluster a user trains; -1 where `known` is False."""
        nearest = self._log_weights(vectors, known).argmax(axis=1)
        return np.where(True if known is None else known, nearest, -1).astype(np.int16)

    def save(self, folder: str | Path) -> None:
        """Write router.safetensors (centroids, mean, scale) and router.json (the rule's numbers)."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        save_file({"centroids": self.centroids, "mean": self.mean, "scale": self.scale}, Path(folder) / "router.safetensors")
        rule = asdict(self.settings) | {"vectors_key": self.vectors_key}
        write_json(f"{folder}/router.json", {"metric": "cosine", "num_clusters": self.num_clusters} | rule)

    @classmethod
    def load(cls, folder: str | Path) -> Router:
        """Read what `save` wrote; raises MissingFileError."""
        rule, tensors = read_json(f"{folder}/router.json"), Path(folder) / "router.safetensors"
        if rule is None or not tensors.is_file():
            raise MissingFileError("no router here", str(folder), "name a cluster artefact: it holds router.json and router.safetensors")
        settings = RouterSettings(**{field.name: rule[field.name] for field in fields(RouterSettings)})
        return cls(**load_file(tensors), settings=settings, vectors_key=rule["vectors_key"])

    def _log_weights(self, vectors: NDArray[Any], known: NDArray[np.bool_] | None) -> NDArray[np.float64]:
        vectors = np.asarray(vectors)  # data frames are welcome
        if vectors.ndim != 2 or vectors.shape[1] != len(self.mean):
            what = f"vectors of shape {vectors.shape}, this router takes (n, {len(self.mean)})"
            key = f"encode artefact {self.vectors_key}" if self.vectors_key else "the kind it was fitted on"
            raise DataError(what, "router", f"use the vectors of {key}, one row a user")
        if known is not None:
            vectors = np.where(known[:, None], vectors, 0)
        if not np.isfinite(vectors).all():
            raise DataError("a user vector holds NaN or infinity", "router", "mark users without a vector as not known")
        logits = directions(vectors, self.mean, self.scale) @ self.centroids.astype(np.float64).T / self.settings.temperature
        logits -= logits.max(axis=1, keepdims=True)
        log_weights: NDArray[np.float64] = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return log_weights


def routes(gates: NDArray[Any]) -> NDArray[np.str_]:
    """(n, K + 1) gates -> (n,) "expert" | "global" | "mixture", the same before and after they were stored as float16."""
    stored = gates.astype(np.float16)
    return np.where(stored[:, -1] == 1, "global", np.where(stored.max(axis=1, initial=0) == 1, "expert", "mixture"))
