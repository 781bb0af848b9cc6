"""The metrics that Prometheus reads at /metrics."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

_SECONDS = (0.001, 0.002, 0.003, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Measures:
    """Counters and histograms of one service."""

    def __init__(self):
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        own = {"registry": self.registry, "namespace": "llmesr"}
        self._requests = Counter("requests", "Answered requests", ["path", "status"], **own)
        self._seconds = Histogram(
            "request_seconds", "From the first byte of a request to its answer", ["path"], buckets=_SECONDS, **own
        )
        self._batch = Histogram("batch_requests", "Requests that were computed together", buckets=(1, 4, 16, 64), **own)
        self._batch_seconds = Histogram("batch_seconds", "Computing a batch", buckets=_SECONDS, **own)
        self.unknown = Counter("unknown_items", "Items of histories that are not in the catalogue", **own)
        self.popular = Counter("popular_answers", "Answers with popular items, as no item was known", **own)
        self.refused = Counter("refused", "Requests refused before they were computed", ["reason"], **own)
        self._waiting = Gauge("waiting_requests", "Requests that wait for a thread", ["thread"], **own)
        self._bundle = Gauge("bundle_items", "Items of a served bundle", ["bundle", "digest"], **own)
        self._failed = Gauge("reload_failed", "1 if the last reload changed nothing because a bundle is damaged", **own)
        self._of: dict[tuple[str, int], Counter] = {}
        self._time_of: dict[str, Histogram] = {}

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Counts a request."""
        key = path, status
        if key not in self._of:  # few paths and statuses
            self._of[key] = self._requests.labels(path, str(status))
            self._time_of[path] = self._seconds.labels(path)
        self._of[key].inc()
        self._time_of[path].observe(seconds)

    def batch(self, requests: int, seconds: float) -> None:
        """Counts a computed batch."""
        self._batch.observe(requests)
        self._batch_seconds.observe(seconds)

    def text(self, waiting: dict[str, int], bundles: dict[str, tuple[str, int]], failed: bool) -> bytes:
        """All metrics in Prometheus' format.

        Args:
          waiting: {thread: number of waiting requests}.
          bundles: {name: (digest, number of items)}.
          failed: whether the last reload failed.
        """
        for thread, count in waiting.items():
            self._waiting.labels(thread).set(count)
        self._failed.set(failed)
        self._bundle.clear()
        for name, (digest, items) in bundles.items():
            self._bundle.labels(name, digest[:12]).set(items)
        return generate_latest(self.registry)
