"""A real `python -m notifier` process for tests, and functions that publish and read its topics."""

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
from uuid import UUID

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from domain.alerts import Alert
from local.mailbox.reading import ReceivedMail
from streams.messages import encode_alert
from tests.notifier.alerts import CAUSE
from tests.ports import free_port
from tests.waiting import eventually
from towerwatch.topics import (
    ALERTS_DEAD_LETTER,
    ALERTS_RAISED,
    ALERTS_RETRY,
    NOTICES_RAISED,
    USERS_CHANGED,
    Topic,
    partition_of,
)
from towerwatch.users.v1.user_service_pb2 import Contact


@dataclass(frozen=True, slots=True)
class UserEvent:
    """A Kafka record of one user."""

    topic: Topic
    user_id: UUID
    value: bytes | None


@dataclass(frozen=True, slots=True)
class DeadLetterRecord:
    """A record of alerts.dead-letter.v1."""

    key: bytes
    value: bytes
    headers: dict[str, str]


def build_contact(user_id: UUID, **changes: object) -> Contact:
    """Return a confirmed contact whose address contains the user id."""
    fields: dict[str, object] = {
        "user_id": str(user_id),
        "email": f"secret-{user_id}@example.net",
        "name": "Ada Verysecret",
        "time_zone": "America/New_York",
        "confirmed": True,
    }
    return Contact(**(fields | changes))  # type: ignore[arg-type]


def publish(bootstrap_servers: str, events: Iterable[UserEvent]) -> None:
    """Publish events in order, like the services do; return once the broker has all."""

    async def publishing() -> None:
        async with AIOKafkaProducer(bootstrap_servers=bootstrap_servers, enable_idempotence=True) as producer:
            for each in events:
                user_id = str(each.user_id)
                partition = partition_of(user_id, each.topic)
                await producer.send(each.topic.name, each.value, user_id.encode(), partition)

    asyncio.run(publishing())


def read_dead_letters(bootstrap_servers: str, user_id: UUID) -> list[DeadLetterRecord]:
    """Return the dead letters of a user, in order."""

    async def reading() -> list[DeadLetterRecord]:
        partition = TopicPartition(ALERTS_DEAD_LETTER.name, partition_of(str(user_id), ALERTS_DEAD_LETTER))
        found = []
        async with AIOKafkaConsumer(bootstrap_servers=bootstrap_servers) as consumer:
            consumer.assign([partition])
            end = (await consumer.end_offsets([partition]))[partition]
            consumer.seek(partition, 0)
            while await consumer.position(partition) < end:
                record = await consumer.getone()
                if record.key == str(user_id).encode():
                    headers = {name: value.decode() for name, value in record.headers}
                    found.append(DeadLetterRecord(record.key, record.value, headers))
        return found

    return asyncio.run(reading())


class NotifierProcess:
    """A running worker."""

    def __init__(self, process: subprocess.Popen[bytes], web_port: int, log: Path) -> None:
        self._process = process
        self._web_port = web_port
        self._log = log

    def page(self, path: str) -> str:
        """Return a page of the worker; empty if the worker does not answer with 200."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._web_port}{path}", timeout=5) as answer:
                return str(answer.read().decode())
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            assert self._process.poll() is None, self.log()
            return ""

    def is_ready(self) -> bool:
        return bool(self.page("/health/ready"))

    def log(self) -> str:
        return self._log.read_text()

    def events(self) -> list[str]:
        """Return the names of the events in the worker's log; a line that is being written is left out."""
        lines = [line for line in self.log().splitlines(keepends=True) if line.startswith("{") and line.endswith("\n")]
        return [json.loads(line).get("event", "") for line in lines]

    def terminate(self) -> int:
        """Send SIGTERM and return the exit status. Fails if the worker does not end within a minute."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(60)

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def kill(self) -> None:
        """Send SIGKILL and wait for the end."""
        self._process.kill()
        self._process.wait(60)


@contextmanager
def started_notifier(
    folder: Path, bootstrap_servers: str, user_manager: str, smtp_port: int, **settings: str
) -> Iterator[NotifierProcess]:
    """Start a worker and yield it at once; kill it at the end of the block."""
    folder.mkdir(parents=True, exist_ok=True)
    web_port = free_port()
    environment = os.environ | {
        "KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
        "USER_MANAGER_GRPC_TARGET": user_manager,
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": str(smtp_port),
        "SMTP_SECURITY": "plaintext",
        "MAIL_FROM": "Towerwatch <alerts@example.org>",
        "WEB_PORT": str(web_port),
        "DATA_DIR": str(folder / "data"),
        "SESSION_TIMEOUT_S": "6",
        "RETRY_BASE_S": "0.5",
        "CONTACT_CACHE_S": "0",
        "GROUP_WAIT_S": "0",
        "PERSON_MAILS_PER_HOUR": "0",
        **settings,
    }
    log = folder / f"notifier-{web_port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "notifier"], env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        yield NotifierProcess(process, web_port, log)
    finally:
        process.kill()
        process.wait()


@contextmanager
def running_notifier(
    folder: Path, bootstrap_servers: str, user_manager: str, smtp_port: int, **settings: str
) -> Iterator[NotifierProcess]:
    """Start a worker and yield it once it is ready; kill it at the end of the block."""
    with started_notifier(folder, bootstrap_servers, user_manager, smtp_port, **settings) as running:
        eventually(running.is_ready)
        yield running


def is_everything_acknowledged(bootstrap_servers: str) -> bool:
    """Return True if the workers have acknowledged all events of their topics, so that no event waits for another
    attempt.

    A retry record is on the broker before the event that it continues is acknowledged. So the committed offsets are
    read first, and the end offsets after them: then no event can be missing from both.
    """

    async def looking() -> bool:
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
        await admin.start()
        try:
            committed = await admin.list_consumer_group_offsets("notifier")
        finally:
            await admin.close()
        partitions = [
            TopicPartition(topic.name, number)
            for topic in (ALERTS_RAISED, ALERTS_RETRY, NOTICES_RAISED, USERS_CHANGED)
            for number in range(topic.partitions)
        ]
        async with AIOKafkaConsumer(bootstrap_servers=bootstrap_servers) as consumer:
            ends = await consumer.end_offsets(partitions)
        return all(end == 0 or (each in committed and committed[each].offset >= end) for each, end in ends.items())

    return asyncio.run(looking())


@contextmanager
def running_mailbox(maildir: Path) -> Iterator[int]:
    """Run a real mailbox and yield its port."""
    port = free_port()
    command = [sys.executable, "-m", "local.mailbox", "--port", str(port), "--maildir", str(maildir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield port
        finally:
            process.kill()


def build_alert_event(alert: Alert) -> UserEvent:
    """Return the event of an alert that was just raised."""
    return UserEvent(ALERTS_RAISED, alert.user_id, encode_alert(alert, CAUSE))


def get_message_ids(delivered: list[ReceivedMail]) -> list[str]:
    """Return the Message-IDs of mails, in their order."""
    return [str(mail.message["Message-ID"]) for mail in delivered]


def get_message_id(alert: Alert) -> str:
    """Return the Message-ID of the mail with this alert alone."""
    return f"<{alert.alert_id}@example.org>"
