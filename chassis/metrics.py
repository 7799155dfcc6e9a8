"""Prometheus metrics of one process, each with the labels that say who reports."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

M = TypeVar("M", Counter, Gauge, Histogram)

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


@dataclass(frozen=True, slots=True)
class ServiceIdentity:
    """Who reports."""

    service: str
    node: str


class LabelledMetric(Generic[M]):
    """A metric that adds `service` and `node` to the labels that its user gives."""

    def __init__(self, metric: M, identity: ServiceIdentity) -> None:
        self._metric: M = metric
        self._identity = identity

    def labels(self, **values: str) -> M:
        """The series of these label values."""
        return self._metric.labels(**values, service=self._identity.service, node=self._identity.node)


class Metrics:
    """Makes metrics in a registry of their own, so that tests and several apps in one process do not clash."""

    def __init__(self, identity: ServiceIdentity) -> None:
        self._identity = identity
        self.registry = CollectorRegistry()

    def counter(self, name: str, says: str, *labels: str) -> LabelledMetric[Counter]:
        return LabelledMetric(Counter(name, says, (*labels, "service", "node"), registry=self.registry), self._identity)

    def gauge(self, name: str, says: str, *labels: str) -> LabelledMetric[Gauge]:
        return LabelledMetric(Gauge(name, says, (*labels, "service", "node"), registry=self.registry), self._identity)

    def histogram(
        self, name: str, says: str, *labels: str, buckets: Iterable[float] = _SECONDS
    ) -> LabelledMetric[Histogram]:
        """`buckets` are upper bounds in the unit that the name ends with."""
        made = Histogram(name, says, (*labels, "service", "node"), registry=self.registry, buckets=tuple(buckets))
        return LabelledMetric(made, self._identity)

    def format_exposition(self) -> tuple[bytes, str]:
        """The metrics in Prometheus' text format, and its content type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST
