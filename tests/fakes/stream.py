"""Fakes of a Faust agent's stream, topics and tables: all record what is done, in one common order."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from types import SimpleNamespace
from typing import Any

from aiokafka.errors import KafkaConnectionError
from faust.exceptions import ProducerSendError

Deed = tuple[str, Any]
"""A recorded action: its name, and the value or key that it was done with."""


def an_event(topic: str, partition: int, key: bytes | None, value: bytes | None, headers: dict[str, bytes]) -> Any:
    """Build an event like those of Faust, at offset 7."""
    message = SimpleNamespace(
        topic=topic, partition=partition, offset=7, key=key, value=value, headers=headers, timestamp=1_360_281_600.0
    )
    return FakeEvent(message)


class FakeEvent:
    """An event with a message. A class of its own, because Faust keeps weak references to events."""

    def __init__(self, message: Any) -> None:
        self.message = message


class FakeStream:
    """A stream that yields the given events and records each manual acknowledgement."""

    def __init__(self, events: Iterable[Any], deeds: list[Deed], late: bool = False) -> None:
        """`late`: after each event, wait until all other tasks have run as far as they can."""
        self._events = events
        self._late = late
        self._deeds = deeds
        self.is_noack = False

    def noack(self) -> "FakeStream":
        """Turn off automatic acknowledgement, as Faust's method does."""
        self.is_noack = True
        return self

    async def events(self) -> AsyncIterator[Any]:
        for event in self._events:
            yield event
            for _ in range(20 if self._late else 0):
                await asyncio.sleep(0)

    async def ack(self, event: Any) -> None:
        assert self.is_noack, "Faust acknowledges by itself"
        self._deeds.append(("acknowledged", event.message.offset))


class FakeTopic:
    """A topic that records the values that the broker has acknowledged, and lets the first sends fail.

    `refuse_at_once` sends fail in `send` itself; `refuse_later` sends fail when the broker would acknowledge them.
    """

    def __init__(self, name: str, deeds: list[Deed], refuse_at_once: int = 0, refuse_later: int = 0) -> None:
        self._name = name
        self._deeds = deeds
        self._refuse_at_once = refuse_at_once
        self._refuse_later = refuse_later
        self.held = asyncio.Event()
        """The broker acknowledges only while this event is set; set by default."""
        self.held.set()

    async def send(self, *, key: Any, value: Any, partition: Any = None, headers: Any = None) -> Any:
        """Start a send; return the future of the broker's acknowledgement. Raises ProducerSendError as planned."""
        if self._refuse_at_once:
            self._refuse_at_once -= 1
            self._deeds.append((f"{self._name} refused", None))
            raise ProducerSendError("no broker")  # Faust raises this for errors of aiokafka
        return asyncio.create_task(self._acknowledge(value))

    async def send_record(self, key: bytes, value: bytes, partition: int) -> Any:
        """Send a record through the interface of a producer."""
        return await self.send(key=key, value=value, partition=partition)

    async def _acknowledge(self, value: Any) -> None:
        """Wait until the broker may acknowledge, then record the value, or raise KafkaConnectionError as planned."""
        await asyncio.sleep(0)
        await self.held.wait()
        if self._refuse_later:
            self._refuse_later -= 1
            self._deeds.append((f"{self._name} refused", None))
            raise KafkaConnectionError
        self._deeds.append((self._name, value))


class FakeTable(dict[bytes, bytes]):
    """A table that records each write; the test decides when the changelog has stored it."""

    def __init__(self, deeds: list[Deed], written: str = "written") -> None:
        super().__init__()
        self._deeds = deeds
        self._written = written
        self._last_write: asyncio.Future[None] | None = None

    def __setitem__(self, key: bytes, entry: bytes) -> None:
        super().__setitem__(key, entry)
        self._deeds.append((self._written, key))
        self._last_write = asyncio.get_running_loop().create_future()

    def write(self, event: Any, key: bytes, entry: bytes | None) -> None:
        """Set the entry of `key`, or delete it if `entry` is None."""
        if entry is not None:
            self[key] = entry
        else:
            del self[key]

    def last_write(self, partition: int) -> "asyncio.Future[None] | None":
        """Return the future of the changelog's acknowledgement of the last write; None before the first write."""
        return self._last_write

    def keep(self, error: Exception | None = None) -> None:
        """Acknowledge the last write in the changelog, or let it fail with `error`."""
        assert self._last_write is not None
        if error is not None:
            self._last_write.set_exception(error)
            return
        self._deeds.append(("kept", None))
        self._last_write.set_result(None)
