"""A small service on Faust: a process of its own (`python -m tests.chassis.faust.example_app`), or begun by a test.

It counts the events of each key, in a table, beside the offset of the last: so none is counted twice, whatever dies.
Some of its settings make it a bad service.
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
from tests.streams.process import Worker
from tests.waiting import eventually

PARTITIONS = 3


@dataclass(frozen=True, slots=True)
class ExampleTopic:
    """What the service reads."""

    name: str
    partitions: int = PARTITIONS
    config: Mapping[str, str] = field(default_factory=dict)


class ExampleSettings(StreamSettings):
    """`service` names its consumer group, its table's changelog and its topic: tests take one each."""

    service: str
    stalls: bool = False
    """Its agent takes an event, and waits for something that never comes."""
    pace_s: float = 0.0
    """What its agent needs for each event."""

    @property
    def topic(self) -> ExampleTopic:
        return ExampleTopic(f"{self.service}.events")


def create_app(settings: ExampleSettings) -> faust.App:
    app = create_stream_app(settings.service, settings, PARTITIONS)
    read = []

    async def take_down(_event: object) -> None:
        read.append(1)

    counts = app.Table("counts", key_type=bytes, value_type=bytes, partitions=PARTITIONS, on_changelog_event=take_down)

    async def count(stream: StreamT[bytes]) -> None:
        events = stream.noack()  # type: ignore[attr-defined]
        async for event in events.events():
            if settings.stalls:
                await asyncio.Event().wait()
            await asyncio.sleep(settings.pace_s)
            key, offset = event.message.key, event.message.offset
            so_far, last = map(int, (counts.get(key) or b"0 -1").split())
            if offset > last:  # else it is a repeat
                counts[key] = b"%d %d" % (so_far + 1, offset)
            await events.ack(event)

    app.agent(app.topic(settings.topic.name, value_serializer="raw"), name="count")(count)
    serve_health_and_metrics(app, Metrics(ServiceIdentity(settings.service, "here")))

    @app.page("/counts")
    async def shown(_view, _request):  # type: ignore[no-untyped-def]
        return Response(text=json.dumps({key.decode(): int(value.split()[0]) for key, value in counts.items()}))

    @app.page("/recovered")
    async def recovered(_view, _request):  # type: ignore[no-untyped-def]
        return Response(text=str(len(read)))

    return app


@contextmanager
def begun(folder: Path, bootstrap_servers: str, service: str, **settings: str) -> Iterator[Worker]:
    """A worker that was just begun; killed at the end of the block if it still runs."""
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
        yield Worker(process, web_port, log)
    finally:
        process.kill()
        process.wait()


@contextmanager
def running(folder: Path, bootstrap_servers: str, service: str, **settings: str) -> Iterator[Worker]:
    """A worker that is ready; killed at the end of the block if it still runs."""
    with begun(folder, bootstrap_servers, service, **settings) as worker:
        eventually(worker.is_ready)
        yield worker


def publish(bootstrap_servers: str, service: str, count: int, keys: int = 10) -> None:
    """Publish `count` events, keyed k0, k1, … in turn; the key alone decides the partition."""

    async def publishing() -> None:
        async with AIOKafkaProducer(bootstrap_servers=bootstrap_servers) as producer:
            topic = f"{service}.events"
            for number in range(count):
                key = number % keys
                await producer.send(topic, b"", f"k{key}".encode(), key % PARTITIONS)

    asyncio.run(publishing())


def counted(worker: Worker) -> dict[str, int]:
    """The events of each key, as the worker's table has them; empty while it does not answer."""
    status, _, body = worker.get("/counts")
    return json.loads(body) if status == 200 else {}


def recovered(worker: Worker) -> int:
    """How many records of its changelog the worker has read."""
    return int(worker.get("/recovered")[2])


def main() -> None:
    settings = load_settings_or_exit("example", ExampleSettings)
    logs.configure(settings.service, settings.log_level, settings.log_format)
    run_worker(create_app(settings), settings, [settings.topic])


if __name__ == "__main__":
    main()
