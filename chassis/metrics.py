"""Prometheus metrics of one process, each with the labels `service` and `node`."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

M = TypeVar("M", Counter, Gauge, Histogram)

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


@dataclass(frozen=True, slots=True)
class ServiceIdentity:
    """The service's name and the node's name, which become labels of every metric."""

    service: str
    node: str


class LabelledMetric(Generic[M]):
    """A counter, gauge or histogram that adds the labels `service` and `node` to the labels that the caller gives."""

    def __init__(self, metric: M, identity: ServiceIdentity) -> None:
        self._metric: M = metric
        self._identity = identity

    def labels(self, **values: str) -> M:
        """Return the time series of these label values (by label name) and of this service and node.

        A series that does not exist yet is created.
        """
        return self._metric.labels(**values, service=self._identity.service, node=self._identity.node)


class Metrics:
    """A factory of one process' metrics, all with the labels `service` and `node`, and their registry.

    The registry is its own, so that several apps in one process (in tests) do not clash.
    """

    def __init__(self, identity: ServiceIdentity) -> None:
        self._identity = identity
        self.registry = CollectorRegistry()

    def counter(self, name: str, text: str, *labels: str) -> LabelledMetric[Counter]:
        """Create a counter; `text` is its help text, `labels` are the names of its own labels."""
        return LabelledMetric(Counter(name, text, (*labels, "service", "node"), registry=self.registry), self._identity)

    def gauge(self, name: str, text: str, *labels: str) -> LabelledMetric[Gauge]:
        """Create a gauge; `text` is its help text, `labels` are the names of its own labels."""
        return LabelledMetric(Gauge(name, text, (*labels, "service", "node"), registry=self.registry), self._identity)

    def histogram(
        self, name: str, text: str, *labels: str, buckets: Iterable[float] = _SECONDS
    ) -> LabelledMetric[Histogram]:
        """Create a histogram; `buckets` are upper bounds in the unit that the name ends with (by default 1 ms to 10 s).

        `text` is its help text, `labels` are the names of its own labels.
        """
        made = Histogram(name, text, (*labels, "service", "node"), registry=self.registry, buckets=tuple(buckets))
        return LabelledMetric(made, self._identity)

    def format_exposition(self) -> tuple[bytes, str]:
        """Return all metrics in Prometheus' text format, and the content type of that format."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST
