"""How a worker begins and ends: what it cannot do it says in one sentence, and no stop waits for what does not come."""

import asyncio
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from chassis.errors import ChassisError
from chassis.faust import worker as stream_worker
from chassis.faust.worker import _Worker
from chassis.topics import ensure_topics
from local.kafka import Broker
from tests.chassis.faust.example_app import PARTITIONS, ExampleTopic, begun, counted, publish, running
from tests.ports import free_port
from tests.streams.process import Worker
from tests.waiting import eventually

NOBODY = "127.0.0.1:1"
SOON_S = 8.0
"""What a stop may take on a machine that is busy; about 1.5 s, or 4 s while the broker is away, on one that is not."""

pytestmark = pytest.mark.timeout(120)


@contextmanager
def paused(broker: Broker) -> Iterator[None]:
    """The broker stands still: connections stay, and nothing is answered."""
    os.kill(broker.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(broker.pid, signal.SIGCONT)


def stopped(worker: Worker, times: int = 1) -> int:
    """The exit code after as many SIGTERMs; fails when it takes too long."""
    began = time.monotonic()
    for _ in range(times):
        worker.process.send_signal(signal.SIGTERM)
    code = worker.process.wait(30)
    assert time.monotonic() - began < SOON_S, worker.log()
    return code


def refused(worker: Worker) -> str:
    """What a worker said that ended with 2: one line, nothing before or after it."""
    assert worker.process.wait(30) == 2, worker.log()
    (line,) = worker.log().splitlines()
    return line


def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    """In one sentence, before anything else is tried."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with begun(tmp_path, NOBODY, "example", WEB_PORT=str(port)) as worker:
            assert refused(worker) == f"example: HTTP cannot listen on 127.0.0.1:{port}: Address already in use."


def test_a_data_directory_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """Faust would end with a stack trace."""
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "data"
    with begun(tmp_path, NOBODY, "example", DATA_DIR=str(path)) as worker:
        assert refused(worker) == f"example: cannot write to {path}: Not a directory; DATA_DIR names it"


def test_brokers_that_cannot_be_are_said(tmp_path: Path) -> None:
    """Those that are only not there are waited for."""
    with begun(tmp_path, "http://kafka:9092", "example") as worker:
        assert "KAFKA_BOOTSTRAP_SERVERS" in refused(worker)


def test_it_answers_while_it_waits_for_its_first_broker(tmp_path: Path) -> None:
    """Live, because to end it would not help; not ready; with metrics. It ends when told to, told once or twice."""
    with begun(tmp_path, f"127.0.0.1:{free_port()}", "example") as worker:
        eventually(lambda: worker.get("/health/live")[0])
        pages = {path: worker.get(path)[0] for path in ("/health/live", "/health/ready", "/metrics", "/")}
        assert pages == {"/health/live": 200, "/health/ready": 503, "/metrics": 200, "/": 200}
        assert "faust_rebalancing" in metrics(worker)
        assert stopped(worker, times=2) == 0, worker.log()
        assert "Traceback" not in worker.log()


def test_topics_that_do_not_fit_are_said(kafka: Broker, tmp_path: Path) -> None:
    """A topic that others made with other partitions would send keys astray."""
    asyncio.run(ensure_topics(kafka.bootstrap_servers, [ExampleTopic("misfit.events", partitions=7)]))
    with begun(tmp_path, kafka.bootstrap_servers, "misfit") as worker:
        assert refused(worker).startswith("misfit: topic misfit.events has 7 partitions where 3 are needed")


def test_it_ends_soon_while_the_broker_is_away(kafka: Broker, tmp_path: Path) -> None:
    """Its producer would wait for the broker, its commit, and its goodbye to the group: for half a minute and more.

    What is cut off is as after kill -9: what was not acknowledged is done again, as `tests.faults` has it.
    """
    servers = kafka.bootstrap_servers
    with running(tmp_path, servers, "away") as worker:
        publish(servers, "away", 30)
        eventually(lambda: sum(counted(worker).values()) == 30)
        with paused(kafka):
            assert stopped(worker, times=2) == 0
        assert "worker.stop_cut_short" in worker.log()


def test_it_ends_soon_while_it_recovers(kafka: Broker, tmp_path: Path) -> None:
    """With a broker, and with one that stands still in the middle of it."""
    servers = kafka.bootstrap_servers
    fill_changelog(servers, "recovers", 60_000)
    for stands_still in (False, True):
        with begun(tmp_path, servers, "recovers") as worker:
            eventually(lambda worker=worker: 'faust_recovering{node="here",service="recovers"} 1.0' in metrics(worker))
            with paused(kafka) if stands_still else nullcontext():
                assert stopped(worker) == 0
            assert ("worker.stop_cut_short" in worker.log()) == stands_still
            assert "Traceback" not in worker.log()


def metrics(worker: Worker) -> str:
    return worker.get("/metrics")[2]


def fill_changelog(bootstrap_servers: str, service: str, records: int) -> None:
    """What tables are recovered from, as if a worker had written it."""

    async def filling() -> None:
        topic = ExampleTopic(f"{service}-counts-changelog", config={"cleanup.policy": "compact"})
        await ensure_topics(bootstrap_servers, [topic])
        async with AIOKafkaProducer(bootstrap_servers=bootstrap_servers, max_batch_size=1 << 19) as producer:
            for number in range(records):
                await producer.send(topic.name, b"1 0", b"%d" % number, number % PARTITIONS)

    asyncio.run(filling())


@pytest.mark.parametrize(
    ("refusal", "crashed", "code"), [(None, False, 0), (ChassisError("no"), False, 2), (None, True, 1)]
)
def test_a_stop_that_hangs_is_ended(monkeypatch, refusal: ChassisError | None, crashed: bool, code: int) -> None:
    """Whatever hangs: a hook of the service, a thread of Faust's. The exit code is that of the stop."""
    codes: list[int] = []
    monkeypatch.setattr(stream_worker, "STOP_WITHIN_S", 0.01)
    monkeypatch.setattr(os, "_exit", codes.append)
    worker: Any = SimpleNamespace(_work_is_done=threading.Event(), _kafka=NOBODY, refusal=refusal, crashed=crashed)
    _Worker._end_in_time(worker)
    assert codes == [code]
