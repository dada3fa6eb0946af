"""Figures of one replica in the form that Prometheus reads."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from thinkrec.serve.messages import Answer

LABELS = ("replica", "package")


class Metrics:
    """Requests by page and status, how long they took, who was asked about, how many wait; of the replica that the label names."""

    def __init__(self, replica: str, package: str) -> None:
        self._registry, self._own = CollectorRegistry(), (replica, package)
        self._requests = Counter("thinkrec_requests", "Requests answered.", (*LABELS, "path", "status"), registry=self._registry)
        self._seconds = Histogram("thinkrec_request_seconds", "Seconds until the answer.", (*LABELS, "path"), registry=self._registry)
        self._strangers = Counter("thinkrec_unknown_users", "Answers about users without rows.", LABELS, registry=self._registry)
        self._unknown = Counter("thinkrec_unknown_items", "Items that are not in the catalogue.", LABELS, registry=self._registry)
        self._waiting = Gauge("thinkrec_waiting_requests", "Requests that wait for the model.", LABELS, registry=self._registry)

    def request(self, path: str, status: int, seconds: float) -> None:
        """Count a request to one of the pages."""
        self._requests.labels(*self._own, path, str(status)).inc()
        self._seconds.labels(*self._own, path).observe(seconds)

    def answer(self, answer: Answer) -> None:
        """Count what an answer could not know."""
        self._strangers.labels(*self._own).inc(not answer.is_known_user)
        self._unknown.labels(*self._own).inc(answer.num_unknown_items)

    def text(self, num_waiting: int) -> str:
        """All figures as Prometheus text."""
        self._waiting.labels(*self._own).set(num_waiting)
        return generate_latest(self._registry).decode()
