"""The start of Faust's own clients of Kafka, which waits for a broker that ended after the worker had found it."""

from collections.abc import Callable
from typing import Final, Protocol, TypeVar

import structlog
from aiokafka.errors import KafkaError
from mode import Service

log = structlog.get_logger()

_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 10.0


class StartableClient(Protocol):
    """A client of aiokafka: a producer or a consumer."""

    async def start(self) -> None:
        """Connect to a broker. Raises KafkaError."""
        ...

    async def stop(self) -> None:
        """Disconnect; do nothing if it is stopped."""
        ...


_Client = TypeVar("_Client", bound=StartableClient)


async def start_client(service: Service, create: Callable[[], _Client]) -> _Client:
    """Create a client and start it, again and again until a broker answers or the service stops; return the last one.

    Faust starts its clients once, and ends the process if no broker answers just then. Each failure is logged; the
    pauses between the attempts double from 0.2 s to 10 s. Raises KafkaError that another attempt would meet, too. If
    the service stops, the client that is returned is stopped.
    """
    pause = _FIRST_PAUSE_S
    while True:
        client = create()
        try:
            await client.start()
        except KafkaError as error:
            await client.stop()
            if not error.retriable:
                raise
            log.warning("kafka.waiting", error=type(error).__name__, again_in_s=pause)
            await service.sleep(pause)
            if service.should_stop:
                return client
            pause = min(pause * 2, _LONGEST_PAUSE_S)
        else:
            return client
