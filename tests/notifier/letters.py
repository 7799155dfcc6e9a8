"""Dead letters for tests, as they lie in their topic."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.structs import ConsumerRecord

from chassis.faust.app import publish_dead_letter
from domain.alerts import Alert
from notifier.messages import Retry, decode_raised, encode_retry
from streams.messages import encode_alert
from tests.notifier.alerts import CAUSE, NOW
from towerwatch.topics import ALERTS_DEAD_LETTER, ALERTS_RAISED, ALERTS_RETRY, Topic, partition_of

Headers = Sequence[tuple[str, bytes | None]]


@dataclass(frozen=True, slots=True)
class Aside:
    """An event that is put aside."""

    topic: Topic
    key: bytes | None
    value: bytes | None
    reason: str = "the server refused the recipient: 550"


def raised(alert: Alert, reason: str = "the server refused the recipient: 550") -> Aside:
    return Aside(ALERTS_RAISED, str(alert.user_id).encode(), encode_alert(alert, CAUSE), reason)


def retry(*alerts: Alert, reason: str = "gave up after 361 tries: no answer", sealed: bool = False) -> Aside:
    """A mail of these alerts that was tried again."""
    values = tuple(decode_raised(encode_alert(each, CAUSE)) for each in alerts)
    value = encode_retry(Retry(values, 361, NOW, NOW - timedelta(days=1), sealed))
    return Aside(ALERTS_RETRY, str(alerts[0].user_id).encode(), value, reason)


def record(
    aside: Aside, offset: int = 0, at: datetime = NOW, partition: int = 3, headers: Headers | None = None
) -> ConsumerRecord:
    """The letter's record; `headers` in place of those that tell all."""
    told: Headers = [
        ("source-topic", aside.topic.name.encode()),
        ("source-partition", b"5"),
        ("source-offset", b"77"),
        ("reason", aside.reason.encode()),
        ("dead-lettered-at", at.isoformat(timespec="seconds").encode()),
    ]
    return plain_record(aside.key, aside.value, told if headers is None else headers, offset, at, partition)


def plain_record(
    key: bytes | None, value: bytes | None, headers: Headers, offset: int, at: datetime | int, partition: int = 3
) -> ConsumerRecord:
    """`at`: or milliseconds since 1970."""
    timestamp = at if isinstance(at, int) else int(at.timestamp() * 1000)
    sizes = len(key or b""), len(value or b"")
    return ConsumerRecord(
        ALERTS_DEAD_LETTER.name, partition, offset, timestamp, 0, key, value, None, *sizes, tuple(headers)
    )


def put_aside(bootstrap_servers: str, dead_letters: Topic, asides: Iterable[Aside]) -> list[str]:
    """Put events aside one after the other, as both services do, to a topic of letters. Their ids."""
    ids: list[str] = []

    async def putting() -> None:
        async with AIOKafkaProducer(bootstrap_servers=bootstrap_servers, enable_idempotence=True) as producer:

            async def send(key: bytes | None, value: bytes | None, headers: dict[str, bytes]) -> "asyncio.Future[Any]":
                sent = await producer.send(dead_letters.name, value, key, headers=list(headers.items()))
                written = await sent
                ids.append(f"{written.partition}:{written.offset}")
                return sent

            for offset, each in enumerate(asides):
                partition = partition_of((each.key or b"").decode(errors="replace"), each.topic)
                message = SimpleNamespace(
                    topic=each.topic.name, partition=partition, offset=offset, key=each.key, value=each.value
                )
                await publish_dead_letter(SimpleNamespace(send=send), SimpleNamespace(message=message), each.reason)  # type: ignore[arg-type]

    asyncio.run(putting())
    return ids
