"""The process: its messages when it cannot start, its life without other services, and how it stops."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import grpc
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_health.v1 import health_pb2, health_pb2_grpc

from chassis.kafka import parse_sequence
from chassis.rpc import create_channel
from local.kafka import Broker
from tests import plain_http
from tests.fakes.collector import FakeCollector
from tests.service_process import ROOT, bare_environment
from tests.user_manager.process import OPERATOR_TOKEN, SIGNING_KEY, StartProcess, process_starter
from tests.waiting import eventually
from towerwatch.topics import USERS_CHANGED, partition_of
from towerwatch.users.v1.events_pb2 import UserChanged
from towerwatch.users.v1.user_service_pb2 import ReportBounceRequest
from towerwatch.users.v1.user_service_pb2_grpc import UserServiceStub
from user_manager.links import LinkSigner

ANN = {"email": "ann@tower.test", "name": "Ann"}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[StartProcess]:
    """Yield a function that starts the service; all its processes are killed after the test."""
    with process_starter(tmp_path) as start:
        yield start


def test_all_missing_settings_are_reported(tmp_path: Path) -> None:
    """The process prints a line for each missing setting, without a stack trace, and exits with code 2."""
    ended = subprocess.run(
        [sys.executable, "-m", "user_manager"],
        cwd=ROOT, env=bare_environment(), capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    for name in (
        "KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL", "HTTP_PORT", "GRPC_PORT", "COLLECTOR_GRPC_TARGET", "PUBLIC_URL",
        "SIGNING_KEY", "OPERATOR_TOKEN",
    ):  # fmt: skip
        assert f"user_manager: {name}: " in ended.stderr
    assert len(ended.stderr.splitlines()) == 8
    assert ended.stdout == ""


def test_an_invalid_setting_is_reported_without_its_value(start: StartProcess) -> None:
    """The value may be a secret, also if it is invalid in several ways."""
    process = start(
        SIGNING_KEY="hunter2",
        OPERATOR_TOKEN="swordfish",
        PUBLIC_URL="https://towerwatch.example/",
        COLLECTOR_GRPC_TARGET="http://collector",
        HTTP_PORT="0",
    )
    assert process.popen.wait(timeout=240) == 2
    logged = process.log()
    for name in ("SIGNING_KEY", "OPERATOR_TOKEN", "PUBLIC_URL", "COLLECTOR_GRPC_TARGET", "HTTP_PORT"):
        assert f"user_manager: {name}: " in logged
    assert "hunter2" not in logged
    assert "swordfish" not in logged
    assert "Traceback" not in logged


@pytest.mark.parametrize("url", ["nonsense", "oracle9://user:hunter2@db/users"])
def test_an_invalid_database_url_is_one_clear_sentence(start: StartProcess, url: str) -> None:
    """The process exits with code 2 and does not print the password in the URL."""
    process = start(DATABASE_URL=url)
    assert process.popen.wait(timeout=240) == 2
    logged = process.log()
    assert "user_manager: DATABASE_URL: " in logged
    assert "hunter2" not in logged
    assert "Traceback" not in logged


@pytest.mark.parametrize("setting", ["HTTP_PORT", "GRPC_PORT"])
def test_a_port_in_use_is_one_clear_sentence(start: StartProcess, setting: str) -> None:
    """The process exits with code 2 if its port is in use."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = start(**{setting: str(taken.getsockname()[1])})
        assert process.popen.wait(timeout=240) == 2
    logged = process.log()
    assert "cannot listen" in logged
    assert "Traceback" not in logged


def test_without_kafka_and_collector_it_registers_users_and_stops_in_order(start: StartProcess) -> None:
    """The service is ready, a deletion gets 503, and no personal data is logged."""
    process = start()
    eventually(lambda: process.status("/health/ready") == 200)
    assert process.status("/health/live") == 200
    registered = plain_http.post(f"{process.base_url}/users", json=ANN)
    assert registered.status_code == 201
    token = registered.json()["token"]
    deleted = plain_http.delete(
        f"{process.base_url}/users/{ANN['email']}", headers={"Authorization": f"Bearer {token}"}, timeout=10
    )
    assert deleted.status_code == 503
    with grpc.insecure_channel(process.grpc_target) as channel:
        health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=60)
    assert health.status == health_pb2.HealthCheckResponse.SERVING
    assert process.terminate() == 0
    logged = process.log()
    assert "service.stopped" in logged
    assert "Traceback" not in logged
    for secret in ("ann@", '"Ann"', token, SIGNING_KEY, OPERATOR_TOKEN):
        assert secret not in logged


def test_locations_begin_with_the_path_of_the_public_url(start: StartProcess) -> None:
    """A client behind a proxy that serves Towerwatch below a path can follow them."""
    process = start(PUBLIC_URL="https://towerwatch.example/tower")
    eventually(lambda: process.status("/health/ready") == 200)
    body = {"email": "ann@person.test", "name": "Ann"}
    made = plain_http.post(f"{process.base_url}/users", json=body, timeout=60)
    assert (made.status_code, made.headers["Location"]) == (201, "/tower/users/ann@person.test")
    token = {"Authorization": f"Bearer {made.json()['token']}"}
    for path in (made.headers["Location"], "/users/ann@person.test"):
        assert plain_http.get(f"{process.base_url}{path}", headers=token, timeout=60).status_code == 200


def test_without_a_database_it_stays_alive_and_becomes_ready_later(start: StartProcess, tmp_path: Path) -> None:
    """The process is not ready while the database is unavailable, and ready once it is available."""
    later = tmp_path / "not-mounted-yet"
    process = start(DATABASE_URL=f"sqlite:///{later}/user_manager.db")
    eventually(lambda: process.status("/health/live") == 200)
    assert process.status("/health/ready") == 503
    assert plain_http.post(f"{process.base_url}/users", json=ANN).status_code == 503
    later.mkdir()
    eventually(lambda: process.status("/health/ready") == 200)
    assert plain_http.post(f"{process.base_url}/users", json=ANN).status_code == 201


def test_it_stops_in_order_while_it_waits_for_its_database(start: StartProcess, tmp_path: Path) -> None:
    """SIGTERM also stops the thread that waits for the database."""
    process = start(DATABASE_URL=f"sqlite:///{tmp_path}/missing/user_manager.db")
    eventually(lambda: process.status("/health/live") == 200)
    assert process.terminate() == 0


def test_a_bounce_that_is_reported_is_shown_and_counted(start: StartProcess) -> None:
    """A bounce reported over gRPC is shown over HTTP and counted at /metrics."""
    process = start()
    eventually(process.is_ready)
    registered = plain_http.post(f"{process.base_url}/users", json=ANN).json()
    bounced_at = Timestamp()
    bounced_at.GetCurrentTime()
    with create_channel(process.grpc_target) as connection:
        request = ReportBounceRequest(user_id=registered["user"]["user_id"], bounced_at=bounced_at)
        for _ in range(2):
            UserServiceStub(connection).ReportBounce(request, timeout=60)
    authorization = {"Authorization": f"Bearer {registered['token']}"}
    shown = plain_http.get(f"{process.base_url}/users/{ANN['email']}", headers=authorization).json()
    assert shown["user"] == registered["user"] | {"suppressed": True}
    counted = plain_http.get(f"{process.base_url}/metrics").text.splitlines()
    for outcome in ("suppressed", "repeated"):
        (line,) = (each for each in counted if each.startswith("bounces_reported_total{") and f'"{outcome}"' in each)
        assert line.endswith(" 1.0")
    assert process.terminate() == 0


async def _consume_events(bootstrap_servers: str, user_id: str, count: int) -> list[tuple[str | None, int]]:
    """Return kind and sequence of the first `count` events of a user in the topic."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest", enable_auto_commit=False
    )
    await consumer.start()
    try:
        consumer.assign([TopicPartition(USERS_CHANGED.name, partition_of(user_id, USERS_CHANGED))])
        found: list[tuple[str | None, int]] = []
        while len(found) < count:
            record = await consumer.getone()
            if record.key == user_id.encode():
                sequence = parse_sequence(record.headers)
                assert sequence is not None
                found.append((UserChanged.FromString(record.value).WhichOneof("change"), sequence))
        return found
    finally:
        await consumer.stop()


def test_the_events_of_an_account_are_published(start: StartProcess, kafka: Broker) -> None:
    """Registration, confirmation and deletion are published in order, with increasing sequences, in one partition."""
    collector = FakeCollector()
    collector.start()
    process = start(KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap_servers, COLLECTOR_GRPC_TARGET=collector.target)
    eventually(lambda: process.status("/health/ready") == 200)
    registered = plain_http.post(f"{process.base_url}/users", json=ANN).json()
    user_id = registered["user"]["user_id"]
    authorization = {"Authorization": f"Bearer {registered['token']}"}
    link = LinkSigner(SIGNING_KEY, process.base_url).build_confirmation_url(UUID(user_id))
    confirmed = plain_http.post(link, headers=authorization)
    assert confirmed.status_code == 200
    deleted = plain_http.delete(f"{process.base_url}/users/{ANN['email']}", headers=authorization)
    assert deleted.status_code == 204
    assert collector.deleted == [user_id]
    published = asyncio.run(asyncio.wait_for(_consume_events(kafka.bootstrap_servers, user_id, 3), timeout=60))
    assert [change for change, _ in published] == ["registered", "confirmed", "deleted"]
    sequences = [sequence for _, sequence in published]
    assert sequences == sorted(set(sequences))
    assert process.terminate() == 0
    collector.stop()


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_it_does_not_serve_others_without_a_secret(start: StartProcess, host: str) -> None:
    """Off loopback gRPC needs GRPC_SECRET: without it the service ends with a sentence that says what to do."""
    process = start(LISTEN_HOST=host)
    assert process.popen.wait(timeout=120) == 2
    said = process.log()
    assert f"gRPC does not listen on {'[::]' if host == '::' else host}:" in said
    assert "give all services the same GRPC_SECRET, or set LISTEN_HOST=127.0.0.1" in said
    assert "Traceback" not in said


def test_it_listens_on_all_addresses_by_either_spelling(start: StartProcess) -> None:
    """HTTP and gRPC understand an IPv6 address in brackets, and `::` takes connections by IPv4 too."""
    process = start(LISTEN_HOST="[::]", GRPC_SECRET="a secret of the tests")
    eventually(process.is_ready)
    with create_channel(process.grpc_target) as channel:
        health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=60)
    assert health.status == health_pb2.HealthCheckResponse.SERVING
    assert process.terminate() == 0
