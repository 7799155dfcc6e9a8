"""What Faust knows of itself, as Prometheus reads it: right, by conventional names, and with few labels."""

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
from tests.chassis.promtool import complaints

FLIGHTS = TP("flights", 3)


class Told:
    """An app and what its metrics say."""

    def __init__(self, data_dir: Path) -> None:
        settings = StreamSettings(kafka_bootstrap_servers="a:1", web_port=1, data_dir=data_dir)
        self.app: faust.App = create_stream_app("example", settings, 12)
        self._metrics = Metrics(ServiceIdentity("example", "node1"))
        serve_health_and_metrics(self.app, self._metrics)
        (durations,) = (each for each in self.app.sensors if isinstance(each, DurationSensor))
        self.durations: Any = durations
        self.monitor: Any = self.app.monitor

    def exposition(self) -> str:
        return self._metrics.format_exposition()[0].decode()

    def __getitem__(self, name: str) -> dict[tuple[str, ...], float]:
        """The series of a name, by the values of its labels but for those that say who reports."""
        found = {}
        for family in text_string_to_metric_families(self.exposition()):
            for sample in family.samples:
                if sample.name == name:
                    assert (sample.labels.pop("service"), sample.labels.pop("node")) == ("example", "node1")
                    found[tuple(sample.labels.values())] = sample.value
        return found


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield Told(tmp_path)
    loop.close()


@pytest.fixture
def clock(monkeypatch) -> SimpleNamespace:
    """The time of `DurationSensor`, in seconds, to be set."""
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
def test_durations_are_from_the_beginning_to_the_end(
    told: Told, clock: SimpleNamespace, name: str, began: str, ended: str
) -> None:
    """Faust's own sensor tells about 0 of rebalances and of HTTP, and milliseconds of all."""
    positions = {
        "on_send_initiated": (None, "topic", None, 1, 1),
        "on_web_request_start": (told.app, None),
        "on_send_completed": (None, "state", None),
        "on_web_request_end": (told.app, None, None, "state"),
        "on_rebalance_return": (told.app, "state"),
        "on_rebalance_end": (told.app, "state"),
    }
    state = getattr(told.durations, began)(*positions.get(began, (told.app,)))
    clock.now += 7.5
    arguments = [state if each == "state" else each for each in positions.get(ended, (None, "state"))]
    getattr(told.durations, ended)(*arguments)
    assert told[f"{name}_sum"] == {(): 7.5}
    assert told[f"{name}_count"] == {(): 1}


def test_assignments_are_told_by_their_result(told: Told, clock: SimpleNamespace) -> None:
    """Only the leader of a group assigns."""
    for finish in (
        lambda state: told.durations.on_assignment_completed(None, state),
        lambda state: told.durations.on_assignment_error(None, state, ValueError()),
    ):
        state = told.durations.on_assignment_start(None)
        clock.now += 2
        finish(state)
    assert told["faust_assignment_seconds_sum"] == {("completed",): 2, ("failed",): 2}


def test_a_message_is_held_until_it_is_acknowledged(told: Told, clock: SimpleNamespace) -> None:
    """One whose arrival was not seen is not told."""
    for time_in in (97.0, None):
        told.durations.on_message_out(FLIGHTS, 1, SimpleNamespace(time_in=time_in))
    assert (told["faust_message_held_seconds_sum"], told["faust_message_held_seconds_count"]) == ({(): 3}, {(): 1})


def test_counts_are_those_of_the_monitor(told: Told) -> None:
    """As of the moment of asking."""
    message: Any = SimpleNamespace(time_in=None)
    told.monitor.on_message_in(FLIGHTS, 17, message)
    told.monitor.on_message_in(TP("interests", 3), 4, message)
    told.monitor.on_send_initiated(None, "alerts", None, 1, 1)
    told.monitor.on_send_error(None, ValueError(), None)
    told.monitor.on_table_set(SimpleNamespace(name="airports"), b"k", b"v")
    told.monitor.on_topic_buffer_full(FLIGHTS)
    told.monitor.on_topic_buffer_full(TP("flights", 4))
    told.monitor.http_response_codes[HTTPStatus(404)] += 2
    told.monitor.on_tp_commit({FLIGHTS: 18})
    told.monitor.track_tp_end_offset(FLIGHTS, 20)
    assert told["faust_messages_received_total"] == {("flights",): 1, ("interests",): 1}
    assert told["faust_messages_sent_total"] == {("alerts",): 1}
    assert told["faust_send_errors_total"] == {(): 1}
    assert told["faust_topic_buffer_full_total"] == {("flights",): 2}
    assert told["faust_http_responses_total"] == {("404",): 2}
    operations = {tuple(sorted(key)): value for key, value in told["faust_table_operations_total"].items()}
    assert operations == {("airports", "deleted"): 0, ("airports", "retrieved"): 0, ("airports", "updated"): 1}
    assert told["faust_read_offset"] == {("3", "flights"): 17, ("3", "interests"): 4}
    assert (told["faust_committed_offset"], told["faust_end_offset"]) == (
        {("3", "flights"): 18},
        {("3", "flights"): 20},
    )
    told.app.rebalancing_count = 2
    told.app.rebalancing = True
    told.monitor.on_rebalance_start(told.app)
    assert told["faust_read_offset"] == {}, "partitions that may be another's by now"
    assert (told["faust_rebalances_total"], told["faust_rebalancing"]) == ({(): 2}, {(): 1})


def test_promtool_accepts_all_of_it(told: Told) -> None:
    """Names with their units, counters with _total, help for each; and labels of which there are few values."""
    test_counts_are_those_of_the_monitor(told)
    assert complaints(told.exposition()) == []
    labels = {
        label
        for family in text_string_to_metric_families(told.exposition())
        for sample in family.samples
        for label in sample.labels
    }
    assert labels <= {"service", "node", "topic", "partition", "table", "operation", "code", "result", "of", "le"}
