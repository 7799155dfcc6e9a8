"""The Prometheus metrics of Faust's internals: correct values, conventional names, and few labels."""

import asyncio
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import faust
import pytest
from faust.types import TP
from prometheus_client.parser import text_string_to_metric_families

from chassis.faust.app import StreamSettings, create_stream_app, serve_health_and_metrics
from chassis.faust.internals import metrics as stream_metrics
from chassis.faust.internals.metrics import DurationSensor
from chassis.metrics import Metrics, ServiceIdentity
from tests.chassis.promtool import check_metrics

FLIGHTS = TP("flights", 3)


class ScrapedApp:
    """An app whose metrics can be read by name."""

    def __init__(self, data_dir: Path) -> None:
        settings = StreamSettings(kafka_bootstrap_servers="a:1", web_port=1, data_dir=data_dir)
        self.app: faust.App = create_stream_app("example", settings, 12)
        self._metrics = Metrics(ServiceIdentity("example", "node1"))
        serve_health_and_metrics(self.app, self._metrics)
        (durations,) = (each for each in self.app.sensors if isinstance(each, DurationSensor))
        self.durations: Any = durations
        self.monitor: Any = self.app.monitor

    def exposition(self) -> str:
        """Return the metrics in Prometheus' text format."""
        return self._metrics.format_exposition()[0].decode()

    def __getitem__(self, name: str) -> dict[tuple[str, ...], float]:
        """Return the values of a metric's time series, by their label values without `service` and `node`."""
        found = {}
        for family in text_string_to_metric_families(self.exposition()):
            for sample in family.samples:
                if sample.name == name:
                    assert (sample.labels.pop("service"), sample.labels.pop("node")) == ("example", "node1")
                    found[tuple(sample.labels.values())] = sample.value
        return found


@pytest.fixture
def scraped(tmp_path: Path) -> Iterator[ScrapedApp]:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield ScrapedApp(tmp_path)
    loop.close()


@pytest.fixture
def clock(monkeypatch) -> SimpleNamespace:
    """Return the clock of `DurationSensor`, in seconds, which the test sets."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(stream_metrics, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


@pytest.mark.parametrize(
    ("name", "began", "ended"),
    [
        ("faust_send_seconds", "on_send_initiated", "on_send_completed"),
        ("faust_commit_seconds", "on_commit_initiated", "on_commit_completed"),
        ("faust_rebalance_seconds", "on_rebalance_start", "on_rebalance_return"),
        ("faust_rebalance_recovered_seconds", "on_rebalance_start", "on_rebalance_end"),
        ("faust_http_response_seconds", "on_web_request_start", "on_web_request_end"),
    ],
)
def test_durations_are_measured_from_the_beginning_to_the_end(
    scraped: ScrapedApp, clock: SimpleNamespace, name: str, began: str, ended: str
) -> None:
    """Faust's own sensor reports about 0 for rebalances and HTTP requests, and uses milliseconds."""
    positions = {
        "on_send_initiated": (None, "topic", None, 1, 1),
        "on_web_request_start": (scraped.app, None),
        "on_send_completed": (None, "state", None),
        "on_web_request_end": (scraped.app, None, None, "state"),
        "on_rebalance_return": (scraped.app, "state"),
        "on_rebalance_end": (scraped.app, "state"),
    }
    state = getattr(scraped.durations, began)(*positions.get(began, (scraped.app,)))
    clock.now += 7.5
    arguments = [state if each == "state" else each for each in positions.get(ended, (None, "state"))]
    getattr(scraped.durations, ended)(*arguments)
    assert scraped[f"{name}_sum"] == {(): 7.5}
    assert scraped[f"{name}_count"] == {(): 1}


def test_assignments_are_measured_by_their_result(scraped: ScrapedApp, clock: SimpleNamespace) -> None:
    """Completed and failed assignments have their own time series."""
    for finish in (
        lambda state: scraped.durations.on_assignment_completed(None, state),
        lambda state: scraped.durations.on_assignment_error(None, state, ValueError()),
    ):
        state = scraped.durations.on_assignment_start(None)
        clock.now += 2
        finish(state)
    assert scraped["faust_assignment_seconds_sum"] == {("completed",): 2, ("failed",): 2}


def test_the_time_until_a_messages_acknowledgement_is_measured(scraped: ScrapedApp, clock: SimpleNamespace) -> None:
    """A message without an arrival time is not measured."""
    for time_in in (97.0, None):
        scraped.durations.on_message_out(FLIGHTS, 1, SimpleNamespace(time_in=time_in))
    assert (scraped["faust_message_held_seconds_sum"], scraped["faust_message_held_seconds_count"]) == (
        {(): 3},
        {(): 1},
    )


def test_counts_are_those_of_the_monitor(scraped: ScrapedApp) -> None:
    """The values are those at the time of the scrape."""
    message: Any = SimpleNamespace(time_in=None)
    scraped.monitor.on_message_in(FLIGHTS, 17, message)
    scraped.monitor.on_message_in(TP("interests", 3), 4, message)
    scraped.monitor.on_send_initiated(None, "alerts", None, 1, 1)
    scraped.monitor.on_send_error(None, ValueError(), None)
    scraped.monitor.on_table_set(SimpleNamespace(name="airports"), b"k", b"v")
    scraped.monitor.on_topic_buffer_full(FLIGHTS)
    scraped.monitor.on_topic_buffer_full(TP("flights", 4))
    scraped.monitor.http_response_codes[HTTPStatus(404)] += 2
    scraped.monitor.on_tp_commit({FLIGHTS: 18})
    scraped.monitor.track_tp_end_offset(FLIGHTS, 20)
    assert scraped["faust_messages_received_total"] == {("flights",): 1, ("interests",): 1}
    assert scraped["faust_messages_sent_total"] == {("alerts",): 1}
    assert scraped["faust_send_errors_total"] == {(): 1}
    assert scraped["faust_topic_buffer_full_total"] == {("flights",): 2}
    assert scraped["faust_http_responses_total"] == {("404",): 2}
    operations = {tuple(sorted(key)): value for key, value in scraped["faust_table_operations_total"].items()}
    assert operations == {("airports", "deleted"): 0, ("airports", "retrieved"): 0, ("airports", "updated"): 1}
    assert scraped["faust_read_offset"] == {("3", "flights"): 17, ("3", "interests"): 4}
    assert (scraped["faust_committed_offset"], scraped["faust_end_offset"]) == (
        {("3", "flights"): 18},
        {("3", "flights"): 20},
    )
    scraped.app.rebalancing_count = 2
    scraped.app.rebalancing = True
    scraped.monitor.on_rebalance_start(scraped.app)
    assert scraped["faust_read_offset"] == {}, "another worker may own the partitions now"
    assert (scraped["faust_rebalances_total"], scraped["faust_rebalancing"]) == ({(): 2}, {(): 1})


def test_promtool_accepts_all_of_it(scraped: ScrapedApp) -> None:
    """Names contain their units, counters end with _total, each metric has a help text, and labels are bounded."""
    test_counts_are_those_of_the_monitor(scraped)
    assert check_metrics(scraped.exposition()) == []
    labels = {
        label
        for family in text_string_to_metric_families(scraped.exposition())
        for sample in family.samples
        for label in sample.labels
    }
    assert labels <= {"service", "node", "topic", "partition", "table", "operation", "code", "result", "of", "le"}
