"""The start and stop of a worker process: faults are printed as one sentence, and a stop never waits for the broker."""

import asyncio
import os
import signal
import socket
import threading
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
from tests.chassis.faust.example_app import (
    PARTITIONS,
    ExampleTopic,
    publish,
    read_counts,
    run_ready_worker,
    start_worker,
)
from tests.ports import free_port
from tests.streams.process import StreamsProcess
from tests.waiting import eventually

NO_BROKER = "127.0.0.1:1"
"""An address at which nothing listens."""


@contextmanager
def paused(broker: Broker) -> Iterator[None]:
    """Freeze the broker during the block: its connections stay open, and it answers nothing."""
    os.kill(broker.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(broker.pid, signal.SIGCONT)


def stop(worker: StreamsProcess, times: int = 1) -> int:
    """Send so many SIGTERMs to a worker and return its exit code.

    Fails if the worker was only ended by the deadline of the whole stop, which means that it waited for the broker.
    """
    for _ in range(times):
        worker.process.send_signal(signal.SIGTERM)
    code = worker.process.wait(120)
    assert "not ended after" not in worker.log()
    return code


def read_refusal(worker: StreamsProcess) -> str:
    """Wait until a worker exits with code 2, and return the only line that it printed."""
    assert worker.process.wait(120) == 2, worker.log()
    (line,) = worker.log().splitlines()
    return line


def test_a_worker_whose_port_is_in_use_exits_with_one_sentence(tmp_path: Path) -> None:
    """The worker binds its port before it does anything else."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with start_worker(tmp_path, NO_BROKER, "example", WEB_PORT=str(port)) as worker:
            refusal = f"example: HTTP cannot listen on 127.0.0.1:{port}: Address already in use"
            assert read_refusal(worker) == f"{refusal}; stop what uses the port, or choose another."


def test_a_worker_whose_data_directory_is_not_writable_exits_with_one_sentence(tmp_path: Path) -> None:
    """Faust itself would end with a stack trace."""
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "data"
    with start_worker(tmp_path, NO_BROKER, "example", DATA_DIR=str(path)) as worker:
        assert read_refusal(worker) == f"example: cannot write to {path}: Not a directory; DATA_DIR names it"


def test_a_worker_with_invalid_broker_addresses_exits_with_one_sentence(tmp_path: Path) -> None:
    """Valid addresses of brokers that are unavailable are waited for instead."""
    with start_worker(tmp_path, "http://kafka:9092", "example") as worker:
        assert "KAFKA_BOOTSTRAP_SERVERS" in read_refusal(worker)


def test_a_worker_serves_its_pages_while_it_waits_for_its_first_broker(tmp_path: Path) -> None:
    """The worker is live (a restart would not help), not ready, and has metrics; one or two SIGTERMs stop it."""
    with start_worker(tmp_path, f"127.0.0.1:{free_port()}", "example") as worker:
        eventually(lambda: worker.get("/health/live")[0])
        pages = {path: worker.get(path)[0] for path in ("/health/live", "/health/ready", "/metrics", "/")}
        assert pages == {"/health/live": 200, "/health/ready": 503, "/metrics": 200, "/": 200}
        assert "faust_rebalancing" in metrics(worker)
        assert stop(worker, times=2) == 0, worker.log()
        assert "Traceback" not in worker.log()


@pytest.mark.parametrize("host", ["[::]", "::", "localhost", "0.0.0.0"])
def test_a_worker_listens_by_every_spelling_of_an_address(tmp_path: Path, host: str) -> None:
    """Its pages answer at 127.0.0.1, whichever addresses of IPv6 they have besides."""
    with start_worker(tmp_path, f"127.0.0.1:{free_port()}", "example", LISTEN_HOST=host) as worker:
        eventually(lambda: worker.get("/health/live")[0] == 200)
        assert stop(worker) == 0, worker.log()
        assert "Traceback" not in worker.log()


def test_a_worker_exits_with_one_sentence_if_a_topic_has_another_partition_count(kafka: Broker, tmp_path: Path) -> None:
    """With another partition count, keys would be in other partitions."""
    asyncio.run(ensure_topics(kafka.bootstrap_servers, [ExampleTopic("misfit.events", partitions=7)]))
    with start_worker(tmp_path, kafka.bootstrap_servers, "misfit") as worker:
        assert read_refusal(worker).startswith("misfit: topic misfit.events has 7 partitions where 3 are needed")


def test_a_stop_does_not_wait_for_a_frozen_broker(kafka: Broker, tmp_path: Path) -> None:
    """Flushing the producer, committing and leaving the group would each wait half a minute or longer.

    The stop is cut short as by kill -9: events that were not acknowledged are processed again, as `tests.faults` shows.
    """
    servers = kafka.bootstrap_servers
    with run_ready_worker(tmp_path, servers, "away") as worker:
        publish(servers, "away", 30)
        eventually(lambda: sum(read_counts(worker).values()) == 30)
        with paused(kafka):
            assert stop(worker, times=2) == 0
        assert "worker.stop_cut_short" in worker.log()
        assert "the broker is away" in worker.log()


def test_a_stop_does_not_wait_for_the_end_of_a_recovery(kafka: Broker, tmp_path: Path) -> None:
    """This holds while the broker answers, and when the broker freezes during the recovery."""
    servers = kafka.bootstrap_servers
    fill_changelog(servers, "recovers", 60_000)
    for stands_still in (False, True):
        with start_worker(tmp_path, servers, "recovers") as worker:
            eventually(lambda worker=worker: 'faust_recovering{node="here",service="recovers"} 1.0' in metrics(worker))
            with paused(kafka) if stands_still else nullcontext():
                assert stop(worker) == 0
            assert ("worker.stop_cut_short" in worker.log()) == stands_still
            assert "Traceback" not in worker.log()


def metrics(worker: StreamsProcess) -> str:
    """Return the text of a worker's /metrics page."""
    return worker.get("/metrics")[2]


def fill_changelog(bootstrap_servers: str, service: str, records: int) -> None:
    """Publish so many records to the changelog of a service's table, as if a worker had written them."""

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
def test_the_deadline_ends_a_stop_that_hangs(
    monkeypatch, refusal: ChassisError | None, crashed: bool, code: int
) -> None:
    """The process exits, whether a hook of the service hangs or a thread of Faust; with the code of the stop."""
    codes: list[int] = []
    monkeypatch.setattr(stream_worker, "STOP_WITHIN_S", 0.01)
    monkeypatch.setattr(os, "_exit", codes.append)
    worker: Any = SimpleNamespace(_work_is_done=threading.Event(), _kafka=NO_BROKER, refusal=refusal, crashed=crashed)
    _Worker._exit_at_deadline(worker)
    assert codes == [code]
