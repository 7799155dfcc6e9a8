"""The stream's process: its metrics, and its tables on disk, with a real worker and a real broker."""

import re
from pathlib import Path

import pytest

from local.kafka import Broker
from tests.chassis.promtool import check_metrics
from tests.streams.process import Worker, alert_ids, everything_acknowledged, publish, running_worker
from tests.streams.traffic import a_scene
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(240)


def test_tables_on_disk_outlast_the_worker(kafka: Broker, tmp_path: Path) -> None:
    """Half of the scene by a new worker, which is killed; half by the next, which finds its directory."""
    scene = a_scene(seed=21, airports=4)
    half = len(scene.events) // 2
    on_disk = {"STORE": "rocksdb", "DATA_DIR": str(tmp_path / "data")}
    with running_worker(tmp_path, kafka.bootstrap_servers, **on_disk) as first:
        publish(kafka.bootstrap_servers, scene.events[:half])
        eventually(lambda: len(alert_ids(kafka.bootstrap_servers, scene.interest_ids)) > 20)
        first.kill()
    with running_worker(tmp_path, kafka.bootstrap_servers, **on_disk) as second:
        publish(kafka.bootstrap_servers, scene.events[half:])
        eventually(lambda: everything_acknowledged(kafka.bootstrap_servers))
        assert second.get("/health/live")[0] == 200
        assert_metrics(second)
        assert second.terminate() == 0, second.log()
    assert alert_ids(kafka.bootstrap_servers, scene.interest_ids) == scene.alert_ids


def assert_metrics(worker: Worker) -> None:
    """Prometheus' linter has no complaint; what passed through is told; and nothing grows with what passes through."""
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
        told = re.search(re.escape(name) + r" (\S+)$", exposition, re.MULTILINE)
        assert told is not None, f"{name} is not in {exposition}"
        assert float(told[1]) > 0, name
    series = [line for line in exposition.splitlines() if line.startswith("faust_") and "_offset{" not in line]
    assert len(series) < 250
