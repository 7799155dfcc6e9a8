"""A small Faust service for tests, run as a process of its own (`python -m tests.chassis.faust.example_app`).

The service counts the events of each key in a table, beside the offset of the last counted event, so that it counts no
event twice after a crash. Some of its settings make its agent slow or stuck.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import faust
from aiohttp.web import Response
from aiokafka import AIOKafkaProducer
from faust.types import StreamT

from chassis import logs
from chassis.faust.app import StreamSettings, create_stream_app, run_worker, serve_health_and_metrics
from chassis.metrics import Metrics, ServiceIdentity
from chassis.process import load_settings_or_exit
from tests.ports import free_port
from tests.streams.process import StreamsProcess
from tests.waiting import eventually

PARTITIONS = 3


@dataclass(frozen=True, slots=True)
class ExampleTopic:
    """The topic that the service reads."""

    name: str
    partitions: int = PARTITIONS
    config: Mapping[str, str] = field(default_factory=dict)


class ExampleSettings(StreamSettings):
    """The settings of the service. Each test gives its own `service`: the name of group, topic and changelog."""

    service: str
    stalls: bool = False
    """True: the agent takes an event and then waits for ever."""
    pace_s: float = 0.0
    """Seconds that the agent takes for each event."""

    @property
    def topic(self) -> ExampleTopic:
        """The topic of the service's events."""
        return ExampleTopic(f"{self.service}.events")


def create_app(settings: ExampleSettings) -> faust.App:
    """Create the service's Faust app, with the additional pages /counts and /recovered."""
    app = create_stream_app(settings.service, settings, PARTITIONS)
    recovered = []

    async def count_recovered(_event: object) -> None:
        recovered.append(1)

    counts = app.Table(
        "counts", key_type=bytes, value_type=bytes, partitions=PARTITIONS, on_changelog_event=count_recovered
    )

    async def count(stream: StreamT[bytes]) -> None:
        events = stream.noack()  # type: ignore[attr-defined]
        async for event in events.events():
            if settings.stalls:
                await asyncio.Event().wait()
            await asyncio.sleep(settings.pace_s)
            key, offset = event.message.key, event.message.offset
            so_far, last = map(int, (counts.get(key) or b"0 -1").split())
            if offset > last:  # else the event is a duplicate
                counts[key] = b"%d %d" % (so_far + 1, offset)
            await events.ack(event)

    app.agent(app.topic(settings.topic.name, value_serializer="raw"), name="count")(count)
    serve_health_and_metrics(app, Metrics(ServiceIdentity(settings.service, "here")))

    @app.page("/counts")
    async def shown(_view, _request):  # type: ignore[no-untyped-def]
        return Response(text=json.dumps({key.decode(): int(value.split()[0]) for key, value in counts.items()}))

    @app.page("/recovered")
    async def recovered_records(_view, _request):  # type: ignore[no-untyped-def]
        return Response(text=str(len(recovered)))

    return app


@contextmanager
def start_worker(folder: Path, bootstrap_servers: str, service: str, **settings: str) -> Iterator[StreamsProcess]:
    """Start a worker process, and kill it at the end of the block if it still runs."""
    folder.mkdir(parents=True, exist_ok=True)
    web_port = free_port()
    environment = os.environ | {
        "SERVICE": service,
        "KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
        "WEB_PORT": str(web_port),
        "DATA_DIR": str(folder / "data"),
        "SESSION_TIMEOUT_S": "6",
        **settings,
    }
    log = folder / f"{service}-{web_port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.chassis.faust.example_app"],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield StreamsProcess(process, web_port, log)
    finally:
        process.kill()
        process.wait()


@contextmanager
def run_ready_worker(folder: Path, bootstrap_servers: str, service: str, **settings: str) -> Iterator[StreamsProcess]:
    """Start a worker process and wait until it is ready; kill it at the end of the block if it still runs."""
    with start_worker(folder, bootstrap_servers, service, **settings) as worker:
        eventually(worker.is_ready)
        yield worker


def publish(bootstrap_servers: str, service: str, count: int, keys: int = 10) -> None:
    """Publish `count` events, with the keys k0, k1, … in turn; the key determines the partition."""

    async def publish_all() -> None:
        async with AIOKafkaProducer(bootstrap_servers=bootstrap_servers) as producer:
            topic = f"{service}.events"
            for number in range(count):
                key = number % keys
                await producer.send(topic, b"", f"k{key}".encode(), key % PARTITIONS)

    asyncio.run(publish_all())


def read_counts(worker: StreamsProcess) -> dict[str, int]:
    """Return the number of events of each key in the worker's table, or nothing while the worker does not answer."""
    status, _, body = worker.get("/counts")
    return json.loads(body) if status == 200 else {}


def read_recovered_count(worker: StreamsProcess) -> int:
    """Return how many records the worker has read from its changelog."""
    return int(worker.get("/recovered")[2])


def main() -> None:
    """Run the service as the environment configures it."""
    settings = load_settings_or_exit("example", ExampleSettings)
    logs.configure(settings.service, settings.log_level, settings.log_format)
    run_worker(create_app(settings), settings, [settings.topic])


if __name__ == "__main__":
    main()
