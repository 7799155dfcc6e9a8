"""Real `python -m streams` workers, and what a test publishes to them and reads of them."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import ConsumerRecord

from chassis.kafka import SEQUENCE_HEADER
from tests.ports import free_port
from tests.streams.events import Event
from tests.waiting import eventually
from towerwatch.alerts.v1.events_pb2 import AlertRaised
from towerwatch.topics import ALERTS_DEAD_LETTER, ALERTS_RAISED, FLIGHTS_OBSERVED, INTERESTS_CHANGED, Topic

GROUP = "streams"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record lies."""

    topic: str
    partition: int
    offset: int


def publish(bootstrap_servers: str, events: Iterable[Event]) -> list[Place]:
    """Publish in order, as the relay does; returns once the broker has all."""

    async def publishing() -> list[Place]:
        async with AIOKafkaProducer(bootstrap_servers=bootstrap_servers, enable_idempotence=True) as producer:
            sent = [
                await producer.send(
                    each.topic.name,
                    each.value,
                    each.key,
                    each.partition,
                    headers=[] if each.sequence is None else [(SEQUENCE_HEADER, str(each.sequence).encode())],
                )
                for each in events
            ]
            return [Place(each.topic, each.partition, each.offset) for each in await asyncio.gather(*sent)]

    return asyncio.run(publishing())


def records(bootstrap_servers: str, topic: Topic) -> list[ConsumerRecord]:
    """All that is in a topic now."""

    async def reading() -> list[ConsumerRecord]:
        partitions = [TopicPartition(topic.name, number) for number in range(topic.partitions)]
        found: list[ConsumerRecord] = []
        async with AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest") as consumer:
            consumer.assign(partitions)
            ends = await consumer.end_offsets(partitions)
            for partition in partitions:
                while await consumer.position(partition) < ends[partition]:
                    for batch in (await consumer.getmany(timeout_ms=200)).values():
                        found += batch
        return found

    return asyncio.run(reading())


def alerts(bootstrap_servers: str, interest_ids: Iterable[UUID]) -> list[AlertRaised]:
    """The alerts of these interests, repeats included."""
    wanted = {str(each) for each in interest_ids}
    raised = [AlertRaised.FromString(record.value) for record in records(bootstrap_servers, ALERTS_RAISED)]
    return [each for each in raised if each.interest_id in wanted]


def alert_ids(bootstrap_servers: str, interest_ids: Iterable[UUID]) -> set[UUID]:
    return {UUID(each.alert_id) for each in alerts(bootstrap_servers, interest_ids)}


def dead_letters(bootstrap_servers: str) -> dict[Place, ConsumerRecord]:
    """By where they came from."""
    letters = {}
    for record in records(bootstrap_servers, ALERTS_DEAD_LETTER):
        headers = {name: value.decode() for name, value in record.headers}
        place = Place(headers["source-topic"], int(headers["source-partition"]), int(headers["source-offset"]))
        letters[place] = record
    return letters


def everything_acknowledged(bootstrap_servers: str) -> bool:
    """Whether the stream has acknowledged all that is in its two topics."""

    async def looking() -> bool:
        partitions = [
            TopicPartition(topic.name, number)
            for topic in (FLIGHTS_OBSERVED, INTERESTS_CHANGED)
            for number in range(topic.partitions)
        ]
        async with AIOKafkaConsumer(bootstrap_servers=bootstrap_servers) as consumer:
            ends = await consumer.end_offsets(partitions)
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
        await admin.start()
        try:
            committed = await admin.list_consumer_group_offsets(GROUP)
        finally:
            await admin.close()
        return all(end == 0 or (each in committed and committed[each].offset >= end) for each, end in ends.items())

    return asyncio.run(looking())


class Worker:
    """A running worker."""

    def __init__(self, process: subprocess.Popen[bytes], web_port: int, log: Path) -> None:
        self.process = process
        self.web_port = web_port
        self._log = log

    def get(self, path: str) -> tuple[int, str, str]:
        """Status, content type and body of a page; status 0 while there is no answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.web_port}{path}", timeout=5) as answer:
                return answer.status, answer.headers["Content-Type"], answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.headers["Content-Type"], error.read().decode()
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            assert self.process.poll() is None, self.log()
            return 0, "", ""

    def is_ready(self) -> bool:
        return self.get("/health/ready")[0] == 200

    def airports(self) -> dict[str, dict[str, Any]]:
        """What it says of the airports that are its own, by airport; empty while it does not answer."""
        status, _, body = self.get("/api/airports?scope=worker")
        return {each["icao"]: each for each in json.loads(body)} if status == 200 else {}

    def log(self) -> str:
        return self._log.read_text()

    def terminate(self) -> int:
        """SIGTERM; the exit code. Fails when it does not end within 15 s."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(15)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(15)


@contextmanager
def begun_worker(folder: Path, bootstrap_servers: str, **settings: str) -> Iterator[Worker]:
    """A worker that was just begun; killed at the end of the block if it still runs."""
    web_port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {
        "KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
        "WEB_PORT": str(web_port),
        "DATA_DIR": str(folder / f"data-{web_port}"),
        "SESSION_TIMEOUT_S": "6",
        **settings,
    }
    log = folder / f"streams-{web_port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "streams"], env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        yield Worker(process, web_port, log)
    finally:
        process.kill()
        process.wait()


@contextmanager
def running_worker(folder: Path, bootstrap_servers: str, **settings: str) -> Iterator[Worker]:
    """A worker that is ready; killed at the end of the block if it still runs."""
    with begun_worker(folder, bootstrap_servers, **settings) as worker:
        eventually(worker.is_ready)
        yield worker
