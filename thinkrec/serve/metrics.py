"""Figures of one replica in the form that Prometheus reads."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from thinkrec.model.kept_prefixes import KeptPrefixes
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
        self._found = Gauge(
            "thinkrec_histories_reused", "Histories that were kept from an earlier request.", LABELS, registry=self._registry
        )
        self._read = Gauge("thinkrec_histories_read", "Histories that the model had to read.", LABELS, registry=self._registry)
        self._bytes = Gauge("thinkrec_histories_bytes", "Memory of the histories that are kept.", LABELS, registry=self._registry)

    def request(self, path: str, status: int, seconds: float) -> None:
        """Count a request to one of the pages."""
        self._requests.labels(*self._own, path, str(status)).inc()
        self._seconds.labels(*self._own, path).observe(seconds)

    def answer(self, answer: Answer) -> None:
        """Count what an answer could not know."""
        self._strangers.labels(*self._own).inc(not answer.is_known_user)
        self._unknown.labels(*self._own).inc(answer.num_unknown_items)

    def text(self, num_waiting: int, kept: KeptPrefixes | None) -> str:
        """All figures as Prometheus text."""
        self._waiting.labels(*self._own).set(num_waiting)
        if kept is not None:
            for gauge, value in ((self._found, kept.num_found), (self._read, kept.num_computed), (self._bytes, kept.num_bytes)):
                gauge.labels(*self._own).set(value)
        return generate_latest(self._registry).decode()
