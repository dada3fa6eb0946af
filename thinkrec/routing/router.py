"""Which adapter serves which user: the gates of docs/method.md 10, in the very space the clusters were found in (D4).

    w = softmax(cos(z(e_u), c_k) / temperature)            z(e) = (e - mean) / scale
    one expert   max w > expert_threshold + expert_slope / K          (looked at first)
    global       entropy(w) >= entropy_share * ln K, or the user has no vector (D5)
    mixture      otherwise, with weights w

All three are one row of K + 1 gates that sums to 1; the last gate is the global adapter. With K = 1 the rule itself says global for
everybody (w = 1 stays below 1.1, and 0 >= 0): one cluster is the run without experts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from thinkrec.errors import ConfigError, DataError, MissingFileError
from thinkrec.routing.nearest import Reals, nearest_centroid
from thinkrec.store.address import read_json, write_json

Floats = NDArray[np.float32]
BLOCK_NUMBERS = 2**17  # of the rows looked at together, which stay in a core's cache
CLOSE = 1e-5  # to a threshold of the rule: here float64 decides


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


def directions(vectors: Reals, mean: Reals, scale: Reals) -> Reals:
    """Unit rows (n, d) of z(e), float32 of float32. An infinite scale leaves a dimension out; a user at the mean stays a row of zeros."""
    z = (vectors - mean) / scale
    length = np.linalg.norm(z, axis=1, keepdims=True)
    unit: Reals = np.divide(z, length, out=np.zeros_like(z), where=length > 0)
    return unit


@dataclass(frozen=True, eq=False)
class Router:
    """Centroids with the rule above; gates take NumPy only, so a scorer or a server needs nothing else."""

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

    def weights(self, vectors: Reals) -> Floats:
        """(n, d) user vectors -> (n, K) softmax weights, before the rule. Raises DataError for a wrong shape or NaN."""
        vectors = self._checked(vectors)
        found = np.empty((len(vectors), self.num_clusters), np.float32)
        for rows, points in self._blocks(len(vectors)):
            found[rows] = self._softmax(vectors[rows], points).weights.T
        return found

    def gates(self, vectors: Reals, known: NDArray[np.bool_] | None = None) -> Floats:
        """(n, d) user vectors -> (n, K + 1) gates; rows where `known` is False hold no vector and get the global adapter."""
        vectors = self._checked(vectors)
        gates = np.empty((len(vectors), self.num_clusters + 1), np.float32)
        if known is not None:
            gates[~known] = np.eye(self.num_clusters + 1)[-1]
            gates[known] = self.gates(vectors[known])
            return gates
        for rows, points in self._blocks(len(vectors)):
            found, unsure = self._rule(self._softmax(vectors[rows], points))
            gates[rows] = found.T
            if unsure.any():
                close = vectors[rows][unsure]
                gates[rows][unsure] = self._rule(self._softmax(close, np.empty(close.shape)))[0].T
        return gates

    def hard(self, vectors: Reals, known: NDArray[np.bool_] | None = None) -> NDArray[np.int16]:
        """(n, d) user vectors -> (n,) nearest centroid, the cluster a user trains; -1 where `known` is False."""
        vectors = self._checked(vectors)
        if known is None:
            return nearest_centroid(vectors, self.centroids, self.mean, self.scale)
        nearest = np.full(len(vectors), -1, np.int16)
        nearest[known] = self.hard(vectors[known])
        return nearest

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

    def _checked(self, vectors: Reals) -> Reals:
        vectors = np.asarray(vectors)  # data frames are welcome
        if vectors.ndim != 2 or vectors.shape[1] != len(self.mean):
            what = f"vectors of shape {vectors.shape}, this router takes (n, {len(self.mean)})"
            key = f"encode artefact {self.vectors_key}" if self.vectors_key else "the kind it was fitted on"
            raise DataError(what, "router", f"use the vectors of {key}, one row a user")
        return vectors

    def _blocks(self, num_rows: int) -> Iterator[tuple[slice, Floats]]:
        """The rows a block at a time, and room for their points."""
        size = max(BLOCK_NUMBERS // (len(self.mean) + self.num_clusters), 1)
        points = np.empty((min(size, num_rows), len(self.mean)), np.float32)
        return ((slice(begin, begin + size), points[: num_rows - begin]) for begin in range(0, num_rows, size))

    def _softmax(self, vectors: Reals, points: Reals) -> _Softmax:
        """Computed in `points` (n, d), with its precision. Users lie along the rows, so that each step runs through memory in order."""
        np.subtract(vectors, self.mean, out=points, casting="same_kind")
        points *= 1 / self.scale.astype(points.dtype)
        length = np.sqrt(np.einsum("nd,nd->n", points, points))
        if not np.isfinite(length).all():
            raise DataError("a user vector holds NaN or infinity", "router", "mark users without a vector as not known")
        length[length == 0] = 1  # a user at the mean: all cosines are 0
        points *= (1 / (length * self.settings.temperature))[:, None]
        logits = self.centroids.astype(points.dtype, copy=False) @ points.T
        logits -= logits.max(axis=0)
        exponentials = np.exp(logits)
        return _Softmax(logits, exponentials, exponentials.sum(axis=0))

    def _rule(self, softmax: _Softmax) -> tuple[Reals, NDArray[np.bool_]]:
        """Gates (K + 1, n), and whose route (n,) hangs on more digits than float32 has."""
        rule, top, entropy = self.settings, 1 / softmax.total, softmax.entropy()
        threshold = rule.expert_threshold + rule.expert_slope / self.num_clusters
        limit = rule.entropy_share * np.log(self.num_clusters)
        alone = top > threshold
        general = ~alone & (entropy >= limit)
        unsure = (np.abs(top - threshold) < CLOSE) | (~alone & (np.abs(entropy - limit) < CLOSE))
        gates = np.empty((self.num_clusters + 1, len(top)), top.dtype)
        np.multiply(softmax.exponentials, np.where(alone | general, 0, top), out=gates[:-1])
        gates[softmax.nearest()[alone], np.flatnonzero(alone)] = 1
        gates[-1] = general
        return gates, unsure


@dataclass(frozen=True, eq=False)
class _Softmax:
    """Of n users over K experts: logits whose greatest is 0, their exponentials (K, n), and the sums of these (n,)."""

    logits: Reals
    exponentials: Reals
    total: Reals

    @property
    def weights(self) -> Reals:
        """(K, n), which sum to 1."""
        return np.asarray(self.exponentials / self.total)

    def entropy(self) -> Reals:
        """(n,) entropy of the weights."""
        return np.asarray(np.log(self.total) - np.einsum("kn,kn->n", self.exponentials, self.logits) / self.total)

    def nearest(self) -> NDArray[np.int64]:
        """(n,) the greatest logit, of equals the first."""
        found = np.empty(len(self.total), np.int64)
        expert, user = np.divmod(np.flatnonzero(self.logits == 0), len(found))
        found[user[::-1]] = expert[::-1]  # what is written last stays
        return found


def routes(gates: Reals) -> NDArray[np.str_]:
    """(n, K + 1) gates -> (n,) "expert" | "global" | "mixture"."""
    return np.where(gates[:, -1] == 1, "global", np.where(gates.max(axis=1, initial=0) == 1, "expert", "mixture"))
