"""Tests of the process: errors at the start, work without its dependencies, and a clean stop."""

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests import plain_http
from tests.collector.process import OPERATOR_TOKEN, CollectorProcess
from tests.service_process import ROOT, bare_environment
from tests.waiting import eventually

Start = Callable[..., CollectorProcess]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Return a function that starts a collector with the given settings; all are killed at the end of the test."""
    processes: list[CollectorProcess] = []

    def begin(**settings: str) -> CollectorProcess:
        processes.append(CollectorProcess(tmp_path, settings))
        return processes[-1]

    yield begin
    for process in processes:
        process.kill()


def test_without_settings_it_reports_all_missing_ones() -> None:
    """The process exits with code 2, and prints one line per setting and no stack trace."""
    ended = subprocess.run(
        [sys.executable, "-m", "collector"],
        cwd=ROOT, env=bare_environment(), capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    required = (
        "KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL", "HTTP_PORT", "GRPC_PORT", "USER_MANAGER_GRPC_TARGET",
        "OPERATOR_TOKEN",
    )  # fmt: skip
    for name in required:
        assert f"collector: {name}: " in ended.stderr
    assert len(ended.stderr.splitlines()) == len(required)
    assert ended.stdout == ""


def test_invalid_settings_are_all_reported_without_their_values(start: Start) -> None:
    """The report has the names of all invalid settings, and no value, because it may be a secret."""
    wrong = {
        "OPERATOR_TOKEN": "swordfish",
        "OPENSKY_CLIENT_SECRET": "hunter2",
        "OPENSKY_URL": "https://opensky.example:hunter2/api",
        "OPENSKY_TOKEN_URL": "ftp://hunter2@opensky.example/",
        "USER_MANAGER_GRPC_TARGET": "http://user-manager",
        "POLL_INTERVAL": "PT1S",
        "RECORD_ASKED_AFTER": "-PT1H",
        "SETTLE_TIME": "PT1M",
        "BEACON_AIRPORTS": "EDDF,hunter2",
        "LIVE_DEPARTURES_CREDITS": "-1",
        "LIVE": "hunter2",
        "LIVE_URLS": "hunter2.example/aircraft.json",
        "LIVE_CREDITS_PER_DAY": "1",
        "CORRECTIONS_AFTER": "P1Y",
        "FLIGHTS_RETENTION": "P30D",
        "CREDITS_PER_DAY": "119",
        "INTERESTS_PER_PERSON": "0",
        "AIRPORTS_PER_PERSON": "0",
        "WRITES_PER_MINUTE": "0",
        "PAST_WINDOWS_PER_DAY": "999",
        "READS_PER_MINUTE": "0",
        "HTTP_PORT": "0",
        "GRPC_PORT": "99999",
    }
    process = start(**wrong, LOG_LEVEL="info")
    assert process.popen.wait(timeout=240) == 2
    said = process.log()
    assert len(said.splitlines()) == len(wrong)
    for name in wrong:
        assert f"collector: {name}: " in said
    for value in ("hunter2", "swordfish", "Traceback"):
        assert value not in said


@pytest.mark.parametrize("url", ["nonsense", "oracle9://user:hunter2@db/collector"])
def test_an_invalid_database_url_is_one_clear_sentence(start: Start, url: str) -> None:
    """The process exits with code 2, and does not print the password in the URL."""
    process = start(DATABASE_URL=url)
    assert process.popen.wait(timeout=240) == 2
    said = process.log()
    assert "collector: DATABASE_URL: " in said
    assert "hunter2" not in said
    assert "Traceback" not in said


@pytest.mark.parametrize("setting", ["HTTP_PORT", "GRPC_PORT"])
def test_a_port_in_use_is_one_clear_sentence(start: Start, setting: str) -> None:
    """The process exits with code 2."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = start(**{setting: str(taken.getsockname()[1])})
        assert process.popen.wait(timeout=240) == 2
    said = process.log()
    assert "cannot listen" in said
    assert "Traceback" not in said


def test_addresses_in_answers_begin_with_the_path_of_the_public_url(start: Start) -> None:
    """People reach the service under it; a proxy may remove it from requests, or leave it."""
    process = start(PUBLIC_URL="https://example.org/tower/")
    eventually(lambda: process.answers("/health/ready"))
    for path in ("/", "/tower/"):
        sent = plain_http.get(f"{process.base_url}{path}", timeout=60, follow_redirects=False)
        assert sent.headers["Location"] == "/tower/docs"


def test_without_any_dependency_it_answers_and_stops_cleanly(start: Start) -> None:
    """The process needs no Kafka, user_manager or OpenSky to be ready, to store requests and to answer soon."""
    process = start()
    eventually(lambda: process.answers("/health/ready"))
    assert process.answers("/health/live")
    asked = plain_http.get(f"{process.base_url}/interests", headers={"Authorization": "Bearer somebodys"}, timeout=60)
    assert asked.status_code == 503
    assert "Retry-After" in asked.headers
    operator = {"Authorization": f"Bearer {OPERATOR_TOKEN}"}
    assert plain_http.post(f"{process.base_url}/collect/manual", headers=operator, timeout=60).status_code == 202
    with grpc.insecure_channel(process.grpc_target) as channel:
        health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=60)
    assert health.status == health_pb2.HealthCheckResponse.SERVING
    assert process.metric("collector_leader") == 0
    metrics = plain_http.get(f"{process.base_url}/metrics", timeout=60).text
    for name in (
        "opensky_api_calls_total",
        "flight_data_processing_seconds",
        "flights_stored_total",
        "http_requests_total",
        "outbox_backlog",
        "outbox_oldest_age_seconds",
        "opensky_credits_left",
        "coverage_lag_seconds",
    ):
        assert f"# TYPE {name.removesuffix('_total')}" in metrics
    assert process.metric("opensky_credits_left") == 400
    assert process.terminate() == 0
    logged = process.log()
    assert "service.stopped" in logged
    for unwanted in ("Traceback", "somebodys", OPERATOR_TOKEN):
        assert unwanted not in logged


def test_without_a_database_it_stays_alive_and_becomes_ready_later(start: Start, tmp_path: Path) -> None:
    """No start order is needed: it is not ready while the database is unavailable, and becomes ready afterwards."""
    later = tmp_path / "not-mounted-yet"
    process = start(DATABASE_URL=f"sqlite:///{later}/collector.db")
    eventually(lambda: process.answers("/health/live"))
    assert process.answers("/health/ready", 503)
    operator = {"Authorization": f"Bearer {OPERATOR_TOKEN}"}
    assert plain_http.post(f"{process.base_url}/collect/manual", headers=operator, timeout=60).status_code == 503
    later.mkdir()
    eventually(lambda: process.answers("/health/ready"))
    assert plain_http.post(f"{process.base_url}/collect/manual", headers=operator, timeout=60).status_code == 202


@pytest.mark.mariadb
def test_it_runs_on_mysql_too(start: Start, mariadb_url: str) -> None:
    """The process makes its tables on MySQL, and stores a request in its outbox."""
    process = start(DATABASE_URL=mariadb_url)
    eventually(lambda: process.answers("/health/ready"))
    operator = {"Authorization": f"Bearer {OPERATOR_TOKEN}"}
    assert plain_http.post(f"{process.base_url}/collect/manual", headers=operator, timeout=60).status_code == 202
    assert process.terminate() == 0
    assert "Traceback" not in process.log()


def test_it_stops_cleanly_while_it_waits_for_its_database(start: Start, tmp_path: Path) -> None:
    """SIGTERM also stops the thread that waits for the database."""
    process = start(DATABASE_URL=f"sqlite:///{tmp_path}/missing/collector.db")
    eventually(lambda: process.answers("/health/live"))
    assert process.terminate() == 0
