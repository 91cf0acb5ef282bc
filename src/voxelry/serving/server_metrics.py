"""ServerMetrics: what Prometheus reads of a server: requests, the queue, jobs, memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)
"""Seconds."""
_METHODS = ("GET", "HEAD", "POST", "DELETE", "OPTIONS")


class _CurrentCounts(Collector):
    """The queue and the jobs as they are when they are asked for."""

    def __init__(self, length: Callable[[], int], jobs: Callable[[], Mapping[str, int]]) -> None:
        self._length, self._jobs = length, jobs

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauges."""
        yield GaugeMetricFamily("voxelry_queue", "Scans that wait or are segmented.", value=self._length())
        jobs = GaugeMetricFamily("voxelry_jobs", "Jobs that are kept, by state.", labels=["state"])
        for state, count in self._jobs().items():
            jobs.add_metric([state], count)
        yield jobs


class ServerMetrics:
    """Counts of one server.

    Args:
        length: of the queue.
        jobs: state -> number of jobs.
    """

    def __init__(self, length: Callable[[], int], jobs: Callable[[], Mapping[str, int]]) -> None:
        self._registry = CollectorRegistry()
        kinds = ["method", "route", "status"]
        self._requests = Counter("voxelry_requests", "Requests that were answered.", kinds, registry=self._registry)
        self._received = Counter("voxelry_received_bytes", "Bytes of bodies that came.", registry=self._registry)
        self._seconds = Histogram(
            "voxelry_request_seconds", "Seconds of a request.", ["route"], registry=self._registry, buckets=_BUCKETS
        )
        self._registry.register(_CurrentCounts(length, jobs))
        ProcessCollector(registry=self._registry)

    def count(self, method: str, route: str, status: int, received: int, seconds: float) -> None:
        """Count a request.

        Args:
            method: of HTTP; any unknown one counts as ``other``.
            route: the pattern of its address.
            status: of the answer.
            received: bytes of the body.
            seconds: that it took.
        """
        self._requests.labels(method if method in _METHODS else "other", route, str(status)).inc()
        self._received.inc(received)
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """All counts in the text format of Prometheus."""
        return generate_latest(self._registry)
