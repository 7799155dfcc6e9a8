"""Dead letters for tests: their events, their records, and a publisher."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.structs import ConsumerRecord

from chassis.faust.app import publish_dead_letter
from collector.messages import encode_airport_unheard
from domain.alerts import Alert
from domain.notices import UnheardNotice
from notifier.messages import Retry, ScheduledNotice, decode_raised_alert, decode_raised_notice, encode_retry
from streams.messages import encode_alert
from tests.notifier.alerts import CAUSE, NOTICE, NOW
from towerwatch.topics import ALERTS_DEAD_LETTER, ALERTS_RAISED, ALERTS_RETRY, NOTICES_RAISED, Topic, partition_of

Headers = Sequence[tuple[str, bytes | None]]


@dataclass(frozen=True, slots=True)
class DeadLetteredEvent:
    """An event that is dead-lettered, and the reason."""

    topic: Topic
    key: bytes | None
    value: bytes | None
    reason: str = "the server refused the recipient: 550"


def dead_lettered_alert(alert: Alert, reason: str = "the server refused the recipient: 550") -> DeadLetteredEvent:
    """Return a dead-lettered event of alerts.raised.v1."""
    return DeadLetteredEvent(ALERTS_RAISED, str(alert.user_id).encode(), encode_alert(alert, CAUSE), reason)


def dead_lettered_retry(
    *alerts: Alert, reason: str = "gave up after 361 tries: no answer", sealed: bool = False
) -> DeadLetteredEvent:
    """Return a dead-lettered event of alerts.retry.v1 with these alerts."""
    values = tuple(decode_raised_alert(encode_alert(each, CAUSE)) for each in alerts)
    value = encode_retry(Retry(values, 361, NOW, NOW - timedelta(days=1), sealed))
    return DeadLetteredEvent(ALERTS_RETRY, str(alerts[0].user_id).encode(), value, reason)


def dead_lettered_notice(
    notice: UnheardNotice = NOTICE, reason: str = "the server refused the recipient: 550"
) -> DeadLetteredEvent:
    """Return a dead-lettered event of notices.raised.v1."""
    message = encode_airport_unheard(notice.user_id, notice.airport, notice.since)
    return DeadLetteredEvent(NOTICES_RAISED, message.key, message.value, reason)


def dead_lettered_notice_retry(notice: UnheardNotice = NOTICE, sealed: bool = False) -> DeadLetteredEvent:
    """Return a dead-lettered event of alerts.retry.v1 with a notice."""
    raised = decode_raised_notice(dead_lettered_notice(notice).value)
    value = encode_retry(ScheduledNotice(raised, 361, NOW, NOW - timedelta(days=1), sealed))
    return DeadLetteredEvent(ALERTS_RETRY, str(notice.user_id).encode(), value, "gave up after 361 tries: no answer")


def build_record(
    event: DeadLetteredEvent, offset: int = 0, at: datetime = NOW, partition: int = 3, headers: Headers | None = None
) -> ConsumerRecord:
    """Return the record of a dead letter. `headers` replace the headers that a complete record has."""
    default_headers: Headers = [
        ("source-topic", event.topic.name.encode()),
        ("source-partition", b"5"),
        ("source-offset", b"77"),
        ("reason", event.reason.encode()),
        ("dead-lettered-at", at.isoformat(timespec="seconds").encode()),
    ]
    return build_plain_record(
        event.key, event.value, default_headers if headers is None else headers, offset, at, partition
    )


def build_plain_record(
    key: bytes | None, value: bytes | None, headers: Headers, offset: int, at: datetime | int, partition: int = 3
) -> ConsumerRecord:
    """Return a record of the dead-letter topic. `at`: a datetime, or milliseconds since 1970."""
    timestamp = at if isinstance(at, int) else int(at.timestamp() * 1000)
    sizes = len(key or b""), len(value or b"")
    return ConsumerRecord(
        ALERTS_DEAD_LETTER.name, partition, offset, timestamp, 0, key, value, None, *sizes, tuple(headers)
    )


def publish_dead_letters(bootstrap_servers: str, dead_letters: Topic, events: Iterable[DeadLetteredEvent]) -> list[str]:
    """Publish events as dead letters, one after the other, as both services do; return their ids in the dead-letter
    topic."""
    ids: list[str] = []

    async def putting() -> None:
        async with AIOKafkaProducer(bootstrap_servers=bootstrap_servers, enable_idempotence=True) as producer:

            async def send(key: bytes | None, value: bytes | None, headers: dict[str, bytes]) -> "asyncio.Future[Any]":
                sent = await producer.send(dead_letters.name, value, key, headers=list(headers.items()))
                written = await sent
                ids.append(f"{written.partition}:{written.offset}")
                return sent

            for offset, each in enumerate(events):
                partition = partition_of((each.key or b"").decode(errors="replace"), each.topic)
                message = SimpleNamespace(
                    topic=each.topic.name, partition=partition, offset=offset, key=each.key, value=each.value
                )
                await publish_dead_letter(SimpleNamespace(send=send), SimpleNamespace(message=message), each.reason)  # type: ignore[arg-type]

    asyncio.run(putting())
    return ids
