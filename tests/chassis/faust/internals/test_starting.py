"""Faust's own clients wait for a broker that ended between the worker's first look and their start."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import faust
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import AuthenticationFailedError, KafkaError, NodeNotReadyError
from mode import Service

from chassis.faust.app import StreamSettings, create_stream_app
from chassis.faust.internals.consumer import StreamConsumer
from chassis.faust.internals.starting import start_client
from chassis.faust.worker import _Producer
from chassis.topics import ensure_topics
from local.kafka import Broker
from tests.chassis.faust.example_app import ExampleTopic
from tests.chassis.faust.internals.test_consumer import unused
from tests.ports import free_port


class Waiting(Service):
    """A service that starts a client; its pauses take no time, and are counted."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses: list[float] = []
        self.stops_in_pause = 0
        """The number of the pause in which the service is stopped; 0: it is not."""

    async def sleep(self, n: Any, *, loop: Any = None) -> None:
        """Record the pause, and return at once."""
        self.pauses.append(n)
        if len(self.pauses) == self.stops_in_pause:
            self._stopped.set()


class FakeClient:
    """A client whose start raises an error, or none."""

    def __init__(self, error: KafkaError | None) -> None:
        self._error = error
        self.is_started = self.is_stopped = False

    async def start(self) -> None:
        """Raise the error, or be started."""
        if self._error is not None:
            raise self._error
        self.is_started = True

    async def stop(self) -> None:
        """Be stopped."""
        self.is_stopped = True


def test_a_client_is_created_anew_until_a_broker_answers() -> None:
    """Each client that found no broker is stopped; the pauses double up to ten seconds."""

    async def scenario() -> None:
        service = Waiting()
        clients = [FakeClient(NodeNotReadyError("node 1")) for _ in range(8)] + [FakeClient(None)]
        coming = iter(clients)
        last = await start_client(service, lambda: next(coming))
        assert last is clients[-1]
        assert last.is_started
        assert not last.is_stopped
        assert all(each.is_stopped for each in clients[:-1])
        assert service.pauses == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10])

    asyncio.run(scenario())


def test_a_service_that_stops_waits_no_longer() -> None:
    """The client that it gets is stopped, so that the service's own stop has nothing to wait for."""

    async def scenario() -> None:
        service = Waiting()
        service.stops_in_pause = 3
        last = await start_client(service, lambda: FakeClient(NodeNotReadyError("node 1")))
        assert len(service.pauses) == 3
        assert last.is_stopped

    asyncio.run(scenario())


def test_an_error_that_another_attempt_would_meet_is_raised() -> None:
    """Wrong credentials do not become right ones by waiting."""

    async def scenario() -> None:
        service = Waiting()
        with pytest.raises(AuthenticationFailedError):
            await start_client(service, lambda: FakeClient(AuthenticationFailedError()))
        assert not service.pauses

    asyncio.run(scenario())


@asynccontextmanager
async def open_relay(port: int, broker: Broker) -> AsyncIterator[None]:
    """Relay connections from a port to the broker during the block."""
    host, _, target = broker.bootstrap_servers.rpartition(":")

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Copy one direction of a connection to its end."""
        while data := await reader.read(65_536):
            writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Connect to the broker, and copy both directions."""
        to_reader, to_writer = await asyncio.open_connection(host, int(target))
        await asyncio.gather(copy(reader, to_writer), copy(to_reader, writer), return_exceptions=True)

    async with await asyncio.start_server(serve, "127.0.0.1", port):
        yield


def test_the_producer_of_a_worker_waits_for_a_broker(kafka: Broker, tmp_path: Path) -> None:
    """Nothing listens at the broker's address at first; once something does, the producer sends."""

    async def scenario() -> None:
        await ensure_topics(kafka.bootstrap_servers, [ExampleTopic("late.events", 1)])
        port = free_port()
        settings = StreamSettings(kafka_bootstrap_servers=f"127.0.0.1:{port}", web_port=1, data_dir=tmp_path)
        app = create_stream_app("late", settings, partitions=1)
        app.finalize()
        producer = _Producer(app.transport)
        attempts: list[AIOKafkaProducer] = []
        create, failed_twice = producer._new_producer, asyncio.Event()

        def create_and_count(*args: Any) -> AIOKafkaProducer:
            """Create a client, and set the event at the third one: two have found no broker."""
            attempts.append(create(*args))
            if len(attempts) == 3:
                failed_twice.set()
            return attempts[-1]

        producer._new_producer = create_and_count
        starting = asyncio.create_task(producer.start())
        await failed_twice.wait()
        async with open_relay(port, kafka):
            await starting
            await producer._producer.send_and_wait("late.events", b"1")
            await producer.stop()

    asyncio.run(asyncio.wait_for(scenario(), 120))


def test_the_consumer_of_a_worker_has_no_partitions_while_it_waits(tmp_path: Path) -> None:
    """Faust's timers ask it for them whether it has started or not; without an answer they would end the worker."""

    async def scenario() -> None:
        settings = StreamSettings(kafka_bootstrap_servers="127.0.0.1:1", web_port=1, data_dir=tmp_path)
        app = create_stream_app("away", settings, partitions=1)
        app.finalize()
        consumer = StreamConsumer(app.transport, callback=unused, on_partitions_revoked=unused,
                                  on_partitions_assigned=unused)  # fmt: skip
        thread: Any = consumer._new_consumer_thread()
        thread.thread_loop.close()
        thread.thread_loop = asyncio.get_running_loop()
        seen = []

        async def sleep(_seconds: float) -> None:
            """Read the partitions in place of a pause, and stop the thread in the second one."""
            seen.append(thread.assignment())
            if len(seen) == 2:
                thread._stopped.set()

        thread.sleep = sleep
        await thread.on_start()
        assert seen == [set(), set()]

    asyncio.run(asyncio.wait_for(scenario(), 120))


def test_faust_declares_no_topic_of_a_table(tmp_path: Path) -> None:
    """The worker has made the changelogs before; a broker that ended since does not end the start of the tables.

    Faust asked it for its controller whenever its client did not know the changelog yet.
    """

    async def scenario() -> None:
        settings = StreamSettings(kafka_bootstrap_servers="127.0.0.1:1", web_port=1, data_dir=tmp_path)
        app: faust.App = create_stream_app("away", settings, partitions=1)
        table = app.Table("counts", key_type=bytes, value_type=bytes, partitions=1)
        app.finalize()
        await table.changelog_topic.maybe_declare()

    asyncio.run(scenario())
