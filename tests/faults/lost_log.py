"""A collector and a stream on a broker of the test's own, whose log can be lost, and the events that they get."""

import asyncio
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from uuid import UUID

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from sqlalchemy import select

from chassis.db.database import Database
from chassis.db.outbox import OutboxMessage
from collector.messages import encode_flights_observed, encode_interest_set
from collector.model import OUTBOX, CoverageRow, EventLogRow, FlightRow, InterestRow
from collector.sources.flight import Flight
from domain.interests import Direction, Interest
from local.kafka import Broker
from tests.collector.process import CollectorProcess
from tests.ports import free_port
from tests.streams.events import Event
from tests.streams.join_state_on_dicts import JoinStateOnDicts
from tests.streams.process import StreamsProcess, read_records, started_worker
from tests.waiting import eventually
from towerwatch.alerts.v1.events_pb2 import AlertRaised
from towerwatch.topics import (
    ALERTS_RAISED,
    ALERTS_RETRY,
    FLIGHTS_OBSERVED,
    INTERESTS_CHANGED,
    NOTICES_RAISED,
    NOTIFIER_GROUP,
)

AIRPORT = "KTEB"


@dataclass
class Stack:
    """A collector whose database the test fills as collections do, a stream that is restarted when it ends, a broker.

    The test acts for the notifier: `mail_everything` acknowledges what is on the topics of alerts.
    """

    folder: Path
    broker: Broker
    database: Database
    store: str
    undisturbed: JoinStateOnDicts = field(default_factory=JoinStateOnDicts)
    sequence: int = 0
    _workers: ExitStack = field(default_factory=ExitStack)
    _worker: StreamsProcess | None = None

    def keep_worker(self) -> StreamsProcess:
        """Start the stream's worker if none runs, as a supervisor does, in the same folder; return it."""
        if self._worker is None or self._worker.process.poll() is not None:
            data = str(self.folder / "streams-data")
            self._worker = self._workers.enter_context(
                started_worker(self.folder, self.broker.bootstrap_servers, STORE=self.store, DATA_DIR=data)
            )
        return self._worker

    def stop_worker(self) -> None:
        """Kill the stream's worker; `keep_worker` starts another one."""
        self._workers.close()
        self._worker = None

    def collect(self, direction: Direction, begin: datetime, end: datetime, times: Iterable[datetime]) -> set[UUID]:
        """Store and publish an interval with flights at these times; return the ids of the alerts that follow."""
        flights = []
        with self.database.transaction() as session:
            cursor = session.get(CoverageRow, (AIRPORT, direction.value))
            if cursor is None:
                cursor = CoverageRow(
                    airport=AIRPORT, direction=direction.value, covered_from=begin, covered_until=begin
                )
                session.add(cursor)
            for at in times:
                icao24 = f"{hash((direction.value, at)) & 0xFFFFFF:06x}"
                flight = Flight.model_construct(
                    icao24=icao24, callsign="", first_seen=at, last_seen=at, departure_airport="", arrival_airport=""
                )
                flights.append(flight)
                row = {"airport": AIRPORT, "direction": direction.value, "icao24": icao24, "callsign": ""}
                session.add(FlightRow(first_seen=at, last_seen=at, event_time=at, other_airport="", **row))
            cursor.covered_until = end
            messages = [*encode_flights_observed(AIRPORT, direction, begin, end, flights, False, cursor.covered_from)]
            OUTBOX.add(session, messages)
        return self._expect(messages)

    def set_interest(self, interest: Interest) -> set[UUID]:
        """Store and publish an interest; return the ids of the alerts that follow."""
        message = encode_interest_set(interest)
        with self.database.transaction() as session:
            session.add(
                InterestRow(
                    interest_id=interest.interest_id,
                    user_id=interest.user_id,
                    airport=interest.airport,
                    direction=interest.direction.value,
                    window_length=interest.window.value,
                    high=interest.high,
                    low=interest.low,
                    for_windows=interest.for_windows,
                    repeat=interest.repeat,
                    effective_from=interest.effective_from,
                    version=interest.version,
                    created_at=interest.effective_from,
                    updated_at=interest.effective_from,
                )
            )
            OUTBOX.add(session, [message])
        return self._expect([message])

    def _expect(self, messages: Iterable[OutboxMessage]) -> set[UUID]:
        """Fold messages as a stream that is never disturbed does, and return the ids of its alerts."""
        raised = set()
        for message in messages:
            self.sequence += 1
            topic = FLIGHTS_OBSERVED if message.topic == FLIGHTS_OBSERVED.name else INTERESTS_CHANGED
            event = Event(topic, AIRPORT, message.key, message.value, self.sequence)
            raised |= {alert.alert_id for alert in self.undisturbed.fold(event)}
        return raised

    def read_raised(self) -> list[UUID]:
        """Read the ids of all alerts that are on their topic now, in the order of their partitions; keep the worker."""
        self.keep_worker()
        try:
            records = read_records(self.broker.bootstrap_servers, ALERTS_RAISED)
        except Exception:  # noqa: BLE001 - the topic is being made anew
            return []
        return [UUID(AlertRaised.FromString(record.value).alert_id) for record in records]

    def wait_until_raised(self, ids: set[UUID]) -> None:
        """Wait until all of these alerts are on their topic."""
        eventually(lambda: ids <= set(self.read_raised()), f"{len(ids)} alerts", within_s=240)

    def wait_until_told(self) -> None:
        """Act for the notifier, and wait until the collector has noted that everything was told."""

        def is_told() -> bool:
            self.mail_everything()
            with self.database.reading() as session:
                covered = session.scalars(select(CoverageRow)).all()
                interests = session.scalars(select(InterestRow)).all()
                return all(each.told_until == each.covered_until for each in covered) and all(
                    each.told_version == each.version for each in interests
                )

        eventually(is_told, "the note of what was told", within_s=240)

    def wait_until_written_anew(self) -> None:
        """Wait until the collector has published everything again to the log that was lost."""

        def is_written_anew() -> bool:
            self.keep_worker()
            with self.database.reading() as session:
                row = session.get(EventLogRow, 1)
                return row is not None and self.count_losses() > 0 and not row.republishing

        eventually(is_written_anew, "the log written anew", within_s=240)

    def count_losses(self) -> float:
        """Return how many times the collector has found the log to be lost."""
        return self.collector.metric("log_losses_total") or 0.0

    def mail_everything(self) -> None:
        """Acknowledge all alerts and notices, as a notifier that has mailed them."""

        async def commit() -> None:
            partitions = [
                TopicPartition(topic.name, number)
                for topic in (ALERTS_RAISED, ALERTS_RETRY, NOTICES_RAISED)
                for number in range(topic.partitions)
            ]
            consumer = AIOKafkaConsumer(
                bootstrap_servers=self.broker.bootstrap_servers, group_id=NOTIFIER_GROUP, enable_auto_commit=False
            )
            async with consumer:
                consumer.assign(partitions)
                await consumer.commit(await consumer.end_offsets(partitions))

        asyncio.run(commit())

    def lose_everything(self) -> None:
        """Stop the broker, delete its folder, and start it anew on the same port."""
        self.broker.stop()
        shutil.rmtree(self.folder / "kafka")
        self.broker.start()

    def lose_topic(self, name: str) -> None:
        """Delete a topic; whoever needs it makes it anew."""

        async def delete() -> None:
            admin = AIOKafkaAdminClient(bootstrap_servers=self.broker.bootstrap_servers)
            await admin.start()
            try:
                await admin.delete_topics([name])
            finally:
                await admin.close()

        asyncio.run(delete())

    collector: CollectorProcess = field(init=False)


@contextmanager
def running_stack(folder: Path, store: str = "memory") -> Iterator[Stack]:
    """Yield a broker, a collector that checks the log every half second, and a stream, all ready."""
    broker = Broker(folder / "kafka", port=free_port())
    broker.start()
    settings = {"KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers, "LOG_CHECKED_EVERY": "PT0.5S"}
    collector = CollectorProcess(folder, settings)
    database = Database(f"sqlite:///{folder}/collector.db")
    stack = Stack(folder, broker, database, store)
    stack.collector = collector
    try:
        eventually(collector.is_ready)
        eventually(lambda: stack.keep_worker().is_ready(), "a worker that is ready")
        yield stack
    finally:
        stack.stop_worker()
        collector.kill()
        database.close()
        broker.stop()
    assert "Traceback" not in collector.log()
