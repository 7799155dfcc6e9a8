"""The check that Kafka's log holds no event of the outbox that the database does not know to have published.

An emptied database, or one that was restored to an earlier instant, would otherwise begin anew in silence: the log's
users and interests would belong to nobody, and new events, with sequences given a second time, would be dropped by
readers as duplicates. The relay commits the sequences before it publishes, so no record is above `next_sequence` of the
database that published it, not even after a crash.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from chassis.db.database import Database
from chassis.db.outbox import Outbox
from chassis.errors import ChassisError, RefusedStartError
from chassis.kafka import parse_sequence, stop_consumer
from chassis.kafka_options import load_client_options
from chassis.log_reading import read_topic
from chassis.topics import TopicLike, is_any_server_listening

log = structlog.get_logger()

BEGIN_ANEW: Final = "--begin-anew"
"""The argument with which a service removes from the log what its database does not know, and ends."""

_LOOK_BACK: Final = 50
"""Records that are read at the end of a partition: late duplicates may stand behind the greatest sequence."""
_IDLE_S: Final = 5.0
"""Seconds without any record after which what is left of a partition counts as removed by compaction."""
_MAX_PAUSE_S: Final = 10.0
_AWAITED_S: Final = 60.0
"""Seconds for which readiness waits for a broker that takes connections and does not answer."""
_LOOK_EVERY_S: Final = 0.5


class LogAheadError(RefusedStartError):
    """The log holds an event that the database did not publish: the database was emptied, restored or mistaken."""


@dataclass(frozen=True, slots=True)
class LoggedValue:
    """The last record of a key in a topic: its partition, and its value, None for a tombstone."""

    partition: int
    value: bytes | None


@dataclass(frozen=True, slots=True)
class LogContent:
    """The content of a compacted topic: the last value of each key, and the greatest sequence (0 if there is none)."""

    values: Mapping[bytes, LoggedValue]
    last_sequence: int


class LogComparison:
    """The comparison of a service's database with the log at its start, for which readiness waits.

    Where no broker can be connected to, the service is ready without it, and is compared once there is one.
    """

    def __init__(
        self, database: Database, outbox: Outbox, bootstrap_servers: str, topics: Iterable[TopicLike], service: str
    ) -> None:
        self._compare = partial(require_log_known, database, outbox, bootstrap_servers, tuple(topics), service)
        self._bootstrap_servers = bootstrap_servers
        self._is_awaited = True

    async def run(self) -> None:
        """Compare, once the topics exist and the schema is upgraded. Raises as `require_log_known` does."""
        await self._compare()
        self._is_awaited = False

    async def await_broker(self) -> None:
        """Let readiness wait no longer, as soon as no broker listens, or after `_AWAITED_S` seconds."""
        deadline = time.monotonic() + _AWAITED_S
        while self._is_awaited and time.monotonic() < deadline:
            try:
                if not await is_any_server_listening(self._bootstrap_servers):
                    break
            except ChassisError:  # no list of servers: other tasks say so
                break
            await asyncio.sleep(_LOOK_EVERY_S)
        self._is_awaited = False

    def explain_unready(self) -> str | None:
        """Return the sentence that readiness gives while the comparison is awaited, or None after it."""
        return "The database is being compared with Kafka's log; try again shortly." if self._is_awaited else None


async def require_log_known(
    database: Database, outbox: Outbox, bootstrap_servers: str, topics: Iterable[TopicLike], service: str
) -> None:
    """Return if the database knows all of its service's events in these topics, which exist; wait for the broker.

    Raises LogAheadError, which names both ways out, and DatabaseUnavailableError.
    """
    last = await _retry_until_read(bootstrap_servers, tuple(topics))

    def load_next_sequence() -> int | None:
        with database.reading() as session:
            return outbox.load_next_sequence(session)

    # Only now: another replica may have published meanwhile, and the database knew it before the log did.
    next_sequence = await asyncio.to_thread(load_next_sequence)
    ahead = sorted(topic for topic, sequence in last.items() if next_sequence is None or sequence >= next_sequence)
    if ahead:
        raise LogAheadError(
            f"Kafka's topic {ahead[0]} has events that this database has never published: it was emptied, or restored "
            "to an earlier instant, or is not the one of this Kafka. Restore the right database, or run "
            f"`python -m {service} {BEGIN_ANEW}` (where `make up` runs it: `make up ARGS={BEGIN_ANEW}`), which removes "
            "from Kafka what this database does not have"
        )


async def _retry_until_read(bootstrap_servers: str, topics: tuple[TopicLike, ...]) -> dict[str, int]:
    """Return the greatest sequence at the end of each topic that has one.

    Retries without end after each error of Kafka, and if an attempt takes longer than two minutes.
    """
    pause = 0.2
    while True:
        try:
            last: dict[str, int] = {}
            async with asyncio.timeout(120):
                async for record in _read_ends(bootstrap_servers, topics):
                    last[record.topic] = max(last.get(record.topic, 0), parse_sequence(record.headers) or 0)
            return {topic: sequence for topic, sequence in last.items() if sequence}
        except (KafkaError, OSError) as error:  # a TimeoutError, too
            log.warning("kafka.waiting", error=type(error).__name__, again_in_s=pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _MAX_PAUSE_S)


async def read_content(bootstrap_servers: str, topic: TopicLike) -> LogContent:
    """Return the last value of each key of a topic, and its greatest sequence. Raises KafkaError and OSError."""
    values: dict[bytes, LoggedValue] = {}
    last_sequence = 0
    async for record in read_topic(bootstrap_servers, topic.name, topic.partitions):
        last_sequence = max(last_sequence, parse_sequence(record.headers) or 0)
        if record.key is not None:
            values[record.key] = LoggedValue(record.partition, record.value)
    return LogContent(values, last_sequence)


async def _read_ends(bootstrap_servers: str, topics: tuple[TopicLike, ...]) -> AsyncIterator[ConsumerRecord]:
    """Yield the last records of each partition as it stands now. Raises KafkaError and OSError."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        group_id=None,
        **load_client_options(),
    )
    try:
        await consumer.start()
        partitions = [TopicPartition(topic.name, number) for topic in topics for number in range(topic.partitions)]
        begins, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        unread = {each for each in partitions if ends[each] > begins[each]}
        if not unread:
            return
        consumer.assign(list(unread))
        for each in unread:
            consumer.seek(each, max(begins[each], ends[each] - _LOOK_BACK))
        while unread:
            batches = await consumer.getmany(*unread, timeout_ms=int(_IDLE_S * 1000))
            if not batches:
                return
            for each, records in batches.items():
                for record in _take_before(records, ends[each]):
                    yield record
                if await consumer.position(each) >= ends[each]:
                    unread.discard(each)
    finally:
        with suppress(KafkaError):
            await stop_consumer(consumer)


def _take_before(records: Iterable[ConsumerRecord], end: int) -> Iterator[ConsumerRecord]:
    """Yield the records whose offset is below `end`."""
    return (record for record in records if record.offset < end)
