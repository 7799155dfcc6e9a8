"""Prometheus metrics of Faust's internals, in place of Faust's own sensor, under names that keep to conventions.

Counts are read from Faust's monitor when Prometheus scrapes, and cost nothing per message: the monitor counts anyway,
for the page of statistics. Only durations are observed as they happen.

These metrics of `faust.sensors.prometheus` are left out:

- the active events, and their run time: both end when Faust itself acknowledges an event, but here the agents
  acknowledge; instead there are metrics of the unacknowledged messages, and of the time until the acknowledgement;
- the events of each stream and task, which are the events of their topics: a stream's label names all of its topics, a
  task's label contains its address in memory;
- counts that the application adds by hand: each of them has a metric of its own here.

The durations of rebalances and HTTP requests are correct here: Faust's sensor subtracts the end from the end, so that
`rebalance_done_*` and `http_latency` are always about 0.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, TypeVar

import faust
from faust.sensors import Sensor
from faust.types import TP
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from chassis.faust.health import Health
from chassis.faust.settings import FAUST_LOG
from chassis.metrics import Metrics

F = TypeVar("F", CounterMetricFamily, GaugeMetricFamily)

_LONG: Final = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
"""Buckets in seconds; a recovery may take minutes."""


class DurationSensor(Sensor):
    """A Faust sensor that observes durations in seconds in histograms; Faust calls its methods.

    The durations are those of messages until their acknowledgement, of sends, commits, assignments, rebalances
    (without and with the recovery of tables) and HTTP responses. This costs a few microseconds per message.
    """

    logger = FAUST_LOG

    def __init__(self, metrics: Metrics) -> None:
        super().__init__()
        self._held = metrics.histogram(
            "faust_message_held_seconds", "From a message's arrival to its acknowledgement"
        ).labels()
        self._send = metrics.histogram("faust_send_seconds", "From a send to the broker's acknowledgement").labels()
        self._commit = metrics.histogram("faust_commit_seconds", "Commits of offsets").labels()
        assignments = metrics.histogram(
            "faust_assignment_seconds", "Assignments of partitions, by the leader", "result"
        )
        self._assigned, self._unassigned = assignments.labels(result="completed"), assignments.labels(result="failed")
        self._rebalance = metrics.histogram(
            "faust_rebalance_seconds", "From the loss of partitions to the next assignment", buckets=_LONG
        ).labels()
        self._back = metrics.histogram(
            "faust_rebalance_recovered_seconds", "From the loss of partitions to recovered tables", buckets=_LONG
        ).labels()
        self._http = metrics.histogram("faust_http_response_seconds", "Answers to HTTP requests").labels()

    def on_message_out(self, tp: TP, offset: int, message: Any) -> None:
        """Observe the time from a message's arrival to its acknowledgement; Faust calls this after the latter.

        A message whose arrival Faust's monitor did not see is left out.
        """
        if message.time_in is not None:  # set by the monitor, of the same clock
            self._held.observe(time.monotonic() - message.time_in)

    def on_send_initiated(self, *_args: object, **_kwargs: object) -> float:
        return time.monotonic()

    def on_send_completed(self, producer: object, state: float, metadata: object) -> None:
        self._send.observe(time.monotonic() - state)

    def on_commit_initiated(self, consumer: object) -> float:
        return time.monotonic()

    def on_commit_completed(self, consumer: object, state: float) -> None:
        self._commit.observe(time.monotonic() - state)

    def on_assignment_start(self, assignor: object) -> dict[str, float]:
        return {"began": time.monotonic()}

    def on_assignment_completed(self, assignor: object, state: Mapping[str, float]) -> None:
        self._assigned.observe(time.monotonic() - state["began"])

    def on_assignment_error(self, assignor: object, state: Mapping[str, float], exc: BaseException) -> None:
        self._unassigned.observe(time.monotonic() - state["began"])

    def on_rebalance_start(self, app: object) -> dict[str, float]:
        return {"began": time.monotonic()}

    def on_rebalance_return(self, app: object, state: Mapping[str, float]) -> None:
        self._rebalance.observe(time.monotonic() - state["began"])

    def on_rebalance_end(self, app: object, state: Mapping[str, float]) -> None:
        self._back.observe(time.monotonic() - state["began"])

    def on_web_request_start(self, *_args: object, **_kwargs: object) -> dict[str, float]:
        return {"began": time.monotonic()}

    def on_web_request_end(
        self, app: object, request: object, response: object, state: Mapping[str, float], *, view: object = None
    ) -> None:
        self._http.observe(time.monotonic() - state["began"])


class MonitorCollector(Collector):
    """A Prometheus collector that reads the counts of Faust's monitor at each scrape.

    Its labels are names of topics, partitions, tables and status codes: all bounded.
    """

    def __init__(self, app: faust.App, health: Health, metrics: Metrics) -> None:
        self._app = app
        self._health = health
        self._identity = metrics._identity

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """Yield all metrics with their present values; called by the registry at each scrape.

        They are counters of messages, errors, full buffers, table operations, rebalances and HTTP responses, and gauges
        of the worker's state, offsets, consumer lag and event-loop lag.
        """
        monitor = self._app.monitor
        yield self._counter("faust_messages_received", "Messages taken", ["topic"], monitor.messages_received_by_topic)
        yield self._counter("faust_messages_sent", "Messages sent", ["topic"], monitor.messages_sent_by_topic)
        yield self._counter("faust_send_errors", "Messages that the broker did not take", [], {(): monitor.send_errors})
        yield self._counter(
            "faust_topic_buffer_full",
            "Times that a full buffer was waited for",
            ["topic"],
            _count_full_buffers_by_topic(monitor),
        )
        operations = {
            (name, operation): getattr(table, f"keys_{operation}")
            for name, table in monitor.tables.items()
            for operation in ("retrieved", "updated", "deleted")
        }
        yield self._counter("faust_table_operations", "Operations on keys", ["table", "operation"], operations)
        yield self._counter("faust_rebalances", "Rebalances", [], {(): self._app.rebalancing_count})
        codes = {str(int(code)): count for code, count in monitor.http_response_codes.items()}
        yield self._counter("faust_http_responses", "Answers to HTTP requests", ["code"], codes)
        yield self._gauge("faust_messages_unacknowledged", "Messages in hand", [], {(): self._count_unacknowledged()})
        yield self._gauge("faust_rebalancing", "1 during a rebalance", [], {(): self._app.rebalancing})
        yield self._gauge("faust_recovering", "1 while tables are recovered", [], {(): self._app.in_recovery})
        for name, text, offsets in (
            ("read", "The last offset that was taken", monitor.tp_read_offsets),
            ("committed", "The offset up to which messages are acknowledged", monitor.tp_committed_offsets),
            ("end", "The partition's end, as of the last message taken", monitor.tp_end_offsets),
        ):
            yield self._gauge(f"faust_{name}_offset", text, ["topic", "partition"], _key_by_partition(offsets))
        yield self._gauge(
            "faust_consumer_lag_messages",
            "Offsets from the last acknowledged message to the partition's end, as the broker says now and then",
            ["topic", "partition"],
            _key_by_partition(self._health.lag_by_partition),
        )
        lag = {("last",): self._health.loop_lag_s, ("worst",): self._health.worst_loop_lag_s}
        yield self._gauge(
            "faust_event_loop_lag_seconds", "By how much the event loop is late, and was in a minute", ["of"], lag
        )

    def _count_unacknowledged(self) -> int:
        """Return how many messages were taken and are not acknowledged; 0 before there is a consumer."""
        consumer: Any = self._app._consumer  # the property would create one
        return 0 if consumer is None else len(consumer.unacked)

    def _counter(self, name: str, text: str, labels: list[str], counts: Mapping[Any, float]) -> CounterMetricFamily:
        """Return a counter with one sample for each of `counts`, whose keys are values of `labels`."""
        return self._add_samples(CounterMetricFamily(name, text, labels=[*labels, "service", "node"]), counts)

    def _gauge(self, name: str, text: str, labels: list[str], values: Mapping[Any, float]) -> GaugeMetricFamily:
        """Return a gauge with one sample for each of `values`, whose keys are values of `labels`."""
        return self._add_samples(GaugeMetricFamily(name, text, labels=[*labels, "service", "node"]), values)

    def _add_samples(self, family: F, values: Mapping[Any, float]) -> F:
        """Add one sample for each of `values` to a metric, labelled with service and node too, and return the metric.

        A key is one label value, or a tuple of them in the order of the metric's own labels.
        """
        for key, value in list(values.items()):
            labels: Iterable[str] = (key,) if isinstance(key, str) else map(str, key)
            family.add_metric([*labels, self._identity.service, self._identity.node], value)
        return family


def _key_by_partition(offsets: Mapping[TP, int]) -> dict[tuple[str, str], int]:
    """Return offsets with pairs of label values, (topic, partition number as text), as keys."""
    return {(tp.topic, str(tp.partition)): offset for tp, offset in list(offsets.items())}


def _count_full_buffers_by_topic(monitor: Any) -> dict[str, int]:
    """Return how often a full buffer had to be waited for, by topic: the sums over the topic's partitions."""
    counts: dict[str, int] = {}
    for tp, count in list(monitor.topic_buffer_full.items()):
        counts[tp.topic] = counts.get(tp.topic, 0) + count
    return counts


def register_faust_metrics(app: faust.App, health: Health, metrics: Metrics) -> None:
    """Add the metrics of an app's Faust internals to a service's metrics: the sensor of durations, and the collector.

    Call once per app, before the app starts.
    """
    app.sensors.add(DurationSensor(metrics))
    metrics.registry.register(MonitorCollector(app, health, metrics))
