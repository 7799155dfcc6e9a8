"""Real `python -m streams` workers for tests, and functions that publish events and read topics."""

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
class RecordId:
    """The topic, partition and offset of a record."""

    topic: str
    partition: int
    offset: int


def publish(bootstrap_servers: str, events: Iterable[Event]) -> list[RecordId]:
    """Publish events in order, as the outbox relay does, and return their record ids once the broker has all."""

    async def publishing() -> list[RecordId]:
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
            return [RecordId(each.topic, each.partition, each.offset) for each in await asyncio.gather(*sent)]

    return asyncio.run(publishing())


def read_records(bootstrap_servers: str, topic: Topic) -> list[ConsumerRecord]:
    """Read all records that are in a topic now."""

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


def read_alerts(bootstrap_servers: str, interest_ids: Iterable[UUID]) -> list[AlertRaised]:
    """Read the published alerts of some interests, duplicates included."""
    wanted = {str(each) for each in interest_ids}
    raised = [AlertRaised.FromString(record.value) for record in read_records(bootstrap_servers, ALERTS_RAISED)]
    return [each for each in raised if each.interest_id in wanted]


def read_alert_ids(bootstrap_servers: str, interest_ids: Iterable[UUID]) -> set[UUID]:
    """Read the ids of the published alerts of some interests."""
    return {UUID(each.alert_id) for each in read_alerts(bootstrap_servers, interest_ids)}


def read_dead_letters(bootstrap_servers: str) -> dict[RecordId, ConsumerRecord]:
    """Read the dead letters, by the id of the record that each came from."""
    dead_letters = {}
    for record in read_records(bootstrap_servers, ALERTS_DEAD_LETTER):
        headers = {name: value.decode() for name, value in record.headers}
        source = RecordId(headers["source-topic"], int(headers["source-partition"]), int(headers["source-offset"]))
        dead_letters[source] = record
    return dead_letters


def is_everything_acknowledged(bootstrap_servers: str) -> bool:
    """Return True if the stream has acknowledged all records of its two input topics."""

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


class StreamsProcess:
    """A running worker process."""

    def __init__(self, process: subprocess.Popen[bytes], web_port: int, log: Path) -> None:
        self.process = process
        self.web_port = web_port
        self._log = log

    def get(self, path: str) -> tuple[int, str, str]:
        """Get a page: its status, content type and body. Status 0: no response."""
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
        """Get the worker's own airports from its REST page, by ICAO code; empty without a response."""
        status, _, body = self.get("/api/airports?scope=worker")
        return {each["icao"]: each for each in json.loads(body)} if status == 200 else {}

    def log(self) -> str:
        return self._log.read_text()

    def terminate(self) -> int:
        """Stop the worker with SIGTERM and return its exit code. Fails if the worker does not end within a minute."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def kill(self) -> None:
        """Kill the worker with SIGKILL."""
        self.process.kill()
        self.process.wait(60)


@contextmanager
def started_worker(folder: Path, bootstrap_servers: str, **settings: str) -> Iterator[StreamsProcess]:
    """Start a worker, which need not be ready yet; it is killed at the end of the block if it still runs."""
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
        yield StreamsProcess(process, web_port, log)
    finally:
        process.kill()
        process.wait()


@contextmanager
def running_worker(folder: Path, bootstrap_servers: str, **settings: str) -> Iterator[StreamsProcess]:
    """Start a worker and wait until it is ready; it is killed at the end of the block if it still runs."""
    with started_worker(folder, bootstrap_servers, **settings) as worker:
        eventually(worker.is_ready)
        yield worker
