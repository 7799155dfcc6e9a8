"""Tests of the stream's process: its metrics and its tables on disk, with a real worker and a real broker."""

import re
from pathlib import Path

from local.kafka import Broker
from tests.chassis.promtool import check_metrics
from tests.streams.process import StreamsProcess, is_everything_acknowledged, publish, read_alert_ids, running_worker
from tests.streams.traffic import generate_traffic
from tests.waiting import eventually


def test_tables_on_disk_outlast_the_worker(kafka: Broker, tmp_path: Path) -> None:
    """A first worker folds half of the traffic and is killed; the next one folds the rest with the same directory.

    Counts, interests and what is usual are read from the tables.
    """
    traffic = generate_traffic(seed=21, airports=4, weeks_before=5)
    half = len(traffic.events) // 2
    on_disk = {"STORE": "rocksdb", "DATA_DIR": str(tmp_path / "data")}
    with running_worker(tmp_path, kafka.bootstrap_servers, **on_disk) as first:
        publish(kafka.bootstrap_servers, traffic.events[:half])
        eventually(lambda: len(read_alert_ids(kafka.bootstrap_servers, traffic.interest_ids)) > 20)
        first.kill()
    with running_worker(tmp_path, kafka.bootstrap_servers, **on_disk) as second:
        publish(kafka.bootstrap_servers, traffic.events[half:])
        eventually(lambda: is_everything_acknowledged(kafka.bootstrap_servers))
        assert second.get("/health/live")[0] == 200
        assert_metrics(second)
        assert second.terminate() == 0, second.log()
    assert read_alert_ids(kafka.bootstrap_servers, traffic.interest_ids) == traffic.alert_ids


def assert_metrics(worker: StreamsProcess) -> None:
    """Require metrics that Prometheus' linter accepts, that count the events, and whose number is bounded."""
    exposition = worker.get("/metrics")[2]
    assert check_metrics(exposition) == []
    for name in (
        'faust_messages_received_total{node="local",service="streams",topic="flights.observed.v1"}',
        'faust_messages_sent_total{node="local",service="streams",topic="streams-airports-changelog"}',
        'faust_table_operations_total{node="local",operation="updated",service="streams",table="airports"}',
        'faust_message_held_seconds_bucket{le="+Inf",node="local",service="streams"}',
        'faust_send_seconds_bucket{le="+Inf",node="local",service="streams"}',
        'faust_event_loop_lag_seconds{node="local",of="worst",service="streams"}',
    ):
        found = re.search(re.escape(name) + r" (\S+)$", exposition, re.MULTILINE)
        assert found is not None, f"{name} is not in {exposition}"
        assert float(found[1]) > 0, name
    series = [line for line in exposition.splitlines() if line.startswith("faust_") and "_offset{" not in line]
    assert len(series) < 250
