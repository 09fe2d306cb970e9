"""What Prometheus reads of a server."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_BATCHES = (1, 2, 4, 8, 16, 32)


class Metrics:
    """Counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "pangu_requests", "Requests answered", ["model", "route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "pangu_request_seconds",
            "From the request to its answer",
            ["model", "route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.call_seconds = Histogram(
            "pangu_call_seconds", "One call of a graph", ["model"], buckets=_SECONDS, registry=self.registry
        )
        self.batches = Histogram(
            "pangu_call_images", "Images of one call of a graph", ["model"], buckets=_BATCHES, registry=self.registry
        )

    def on_batch(self, model: str, images: int, seconds: float) -> None:
        """One call of a graph."""
        self.call_seconds.labels(model).observe(seconds)
        self.batches.labels(model).observe(images)

    def gauge(self, name: str, about: str, read: Callable[[], float]) -> None:
        """A value that is read when it is asked for."""
        Gauge(name, about, registry=self.registry).set_function(read)

    def text(self) -> bytes:
        """In Prometheus's text format."""
        return generate_latest(self.registry)
