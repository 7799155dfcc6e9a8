"""What surrounds an agent, for tests: its stream, topics and tables write down what is done in which order."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from types import SimpleNamespace
from typing import Any

from aiokafka.errors import KafkaConnectionError
from faust.exceptions import ProducerSendError

Deed = tuple[str, Any]
"""What was done, and with what."""


def an_event(topic: str, partition: int, key: bytes | None, value: bytes | None, headers: dict[str, bytes]) -> Any:
    message = SimpleNamespace(
        topic=topic, partition=partition, offset=7, key=key, value=value, headers=headers, timestamp=1_360_281_600.0
    )
    return FakeEvent(message)


class FakeEvent:
    """Faust refers to events weakly."""

    def __init__(self, message: Any) -> None:
        self.message = message


class FakeStream:
    """Gives these events, and writes down each acknowledgement by hand."""

    def __init__(self, events: Iterable[Any], deeds: list[Deed], late: bool = False) -> None:
        """`late`: each event comes when everything has run that can."""
        self._events = events
        self._late = late
        self._deeds = deeds
        self.is_noack = False

    def noack(self) -> "FakeStream":
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
    """Writes down what the broker has acknowledged; refuses the first sends, at once or later."""

    def __init__(self, name: str, deeds: list[Deed], refuse_at_once: int = 0, refuse_later: int = 0) -> None:
        self._name = name
        self._deeds = deeds
        self._refuse_at_once = refuse_at_once
        self._refuse_later = refuse_later
        self.held = asyncio.Event()
        """Until it is set the broker takes its time."""
        self.held.set()

    async def send(self, *, key: Any, value: Any, partition: Any = None, headers: Any = None) -> Any:
        if self._refuse_at_once:
            self._refuse_at_once -= 1
            self._deeds.append((f"{self._name} refused", None))
            raise ProducerSendError("no broker")  # as Faust tells what aiokafka raises
        return asyncio.create_task(self._sent(value))

    async def send_record(self, key: bytes, value: bytes, partition: int) -> Any:
        """As a producer sends it."""
        return await self.send(key=key, value=value, partition=partition)

    async def _sent(self, value: Any) -> None:
        await asyncio.sleep(0)
        await self.held.wait()
        if self._refuse_later:
            self._refuse_later -= 1
            self._deeds.append((f"{self._name} refused", None))
            raise KafkaConnectionError
        self._deeds.append((self._name, value))


class FakeTable(dict[bytes, bytes]):
    """Writes down each write; the test says when the changelog has it."""

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
        if entry is not None:
            self[key] = entry
        else:
            del self[key]

    def last_write(self, partition: int) -> "asyncio.Future[None] | None":
        return self._last_write

    def keep(self, error: Exception | None = None) -> None:
        """The broker has what was written last, or never will."""
        assert self._last_write is not None
        if error is not None:
            self._last_write.set_exception(error)
            return
        self._deeds.append(("kept", None))
        self._last_write.set_result(None)
