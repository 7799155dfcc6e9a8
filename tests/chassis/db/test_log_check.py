"""A database is compared with Kafka's log at the start: a lost or older one is refused, and the way out is named."""

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer
from sqlalchemy import MetaData

from chassis.db.database import Database
from chassis.db.log_check import LogAheadError, read_content, require_log_known
from chassis.db.outbox import LeaseWatch, Outbox, OutboxMessage
from chassis.db.outbox_relay import publish
from chassis.topics import ensure_topics
from local.kafka import Broker


class SmallService:
    """A service with an outbox on a file of SQLite, and a compacted topic of its own."""

    def __init__(self, folder: Path, kafka: Broker, topic: str) -> None:
        self.path = folder / "service.db"
        self.kafka = kafka
        self.topic = SimpleNamespace(name=topic, partitions=3, config={"cleanup.policy": "compact"})
        self.open()

    def open(self) -> None:
        """Open the file, and make the outbox's tables if they are not there."""
        schema = MetaData()
        self.outbox, self.database = Outbox(schema), Database(f"sqlite:///{self.path}")
        schema.create_all(self.database.engine)

    def write(self, *keys: str, value: bytes | None = b"value") -> None:
        """Commit one event for each key."""
        with self.database.transaction() as session:
            self.outbox.add(
                session, [OutboxMessage(self.topic.name, sum(key.encode()) % 3, key.encode(), value) for key in keys]
            )

    async def publish(self, *, forget: bool = True) -> None:
        """Publish all events; `forget` False: as a relay that crashes before it deletes them."""
        async with AIOKafkaProducer(bootstrap_servers=self.kafka.bootstrap_servers, acks="all") as producer:
            while True:
                with self.database.transaction() as session:
                    claimed = self.outbox.claim_messages(session, "one", time.time(), LeaseWatch(), time.monotonic())
                if not claimed:
                    return
                await publish(producer, claimed, time.monotonic() + 60)
                if not forget:
                    return
                with self.database.transaction() as session:
                    self.outbox.delete_published(session, claimed)

    async def require_log_known(self) -> None:
        """Do what the service does at its start. Raises LogAheadError."""
        servers = self.kafka.bootstrap_servers
        await asyncio.wait_for(require_log_known(self.database, self.outbox, servers, [self.topic], "service"), 120)


def lose_everything(service: SmallService, _backup: Path) -> None:
    """Empty the database."""
    service.path.unlink()


def restore_backup(service: SmallService, backup: Path) -> None:
    """Put an earlier state of the database in its place."""
    shutil.copy(backup, service.path)


@pytest.fixture
def service(tmp_path: Path, kafka: Broker) -> Iterator[SmallService]:
    """Return a service whose topic is empty."""
    service = SmallService(tmp_path, kafka, f"small.{uuid4()}.v1")
    asyncio.run(ensure_topics(kafka.bootstrap_servers, [service.topic]))
    yield service
    service.database.close()


def run(*steps: Callable[[], Awaitable[None]]) -> None:
    """Await the steps in turn."""

    async def run_steps() -> None:
        for step in steps:
            await step()

    asyncio.run(run_steps())


def test_its_own_log_is_known_at_every_moment(service: SmallService) -> None:
    """Empty, after publishing, after a crash between publishing and forgetting, and after the repeat."""
    run(service.require_log_known)
    service.write("a", "b", "c")
    run(service.require_log_known, service.publish, service.require_log_known)
    service.write(*"abcdefgh")
    run(lambda: service.publish(forget=False), service.require_log_known, service.publish, service.require_log_known)


@pytest.mark.parametrize("loss", [lose_everything, restore_backup])
def test_a_database_that_lacks_what_the_log_has_is_refused(
    service: SmallService, tmp_path: Path, loss: Callable[[SmallService, Path], None]
) -> None:
    """One event more in any partition is enough, and the sentence names both ways out."""
    backup = tmp_path / "backup.db"
    service.write("a", "b", "c")
    run(service.publish)
    service.database.close()
    shutil.copy(service.path, backup)
    service.open()
    service.write("d")
    run(service.publish, service.require_log_known)
    service.database.close()
    loss(service, backup)
    service.open()
    with pytest.raises(LogAheadError, match=r"Restore the right database, or run `python -m service --begin-anew`"):
        run(service.require_log_known)
    content = asyncio.run(read_content(service.kafka.bootstrap_servers, service.topic))
    assert {key.decode() for key in content.values} == {*"abcd"}
    with service.database.transaction() as session:
        service.outbox.continue_above(session, content.last_sequence, time.time())
    run(service.require_log_known)
    service.write("a", value=None)
    run(service.publish, service.require_log_known)
    again = asyncio.run(read_content(service.kafka.bootstrap_servers, service.topic))
    assert again.last_sequence > content.last_sequence, "no reader takes the new event for a repeat"
    assert {key.decode(): logged.value for key, logged in again.values.items()} == {
        "a": None, "b": b"value", "c": b"value", "d": b"value",
    }  # fmt: skip


def test_events_that_wait_in_a_restored_outbox_get_new_sequences(service: SmallService, tmp_path: Path) -> None:
    """They may be published already, or not; with their old sequences readers could drop them as repeats."""
    service.write("a")
    run(lambda: service.publish(forget=False))
    service.database.close()
    shutil.copy(service.path, tmp_path / "backup.db")
    service.open()
    service.write("b", "c")
    run(service.publish)
    service.database.close()
    restore_backup(service, tmp_path / "backup.db")
    service.open()
    before = asyncio.run(read_content(service.kafka.bootstrap_servers, service.topic)).last_sequence
    with service.database.transaction() as session:
        service.outbox.continue_above(session, before, time.time())
    with service.database.transaction() as session:
        [waiting] = service.outbox.claim_messages(session, "one", time.time(), LeaseWatch(), time.monotonic())
    assert (waiting.message.key, waiting.sequence > before) == (b"a", True)
