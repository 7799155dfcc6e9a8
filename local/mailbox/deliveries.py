"""The signal from the mail server to the open pages that a mail was stored."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class DeliverySignal:
    """Notifies the handler of each open page of deliveries. All methods must be called in the event loop's thread."""

    def __init__(self) -> None:
        self._listeners: set[asyncio.Event] = set()
        self.is_closed = False
        """True once the server stops: listeners must end."""

    def announce(self) -> None:
        """Set the event of every listener, after a delivery."""
        for listener in self._listeners:
            listener.set()

    def close(self) -> None:
        """Set `is_closed`, and then the event of every listener for the last time."""
        self.is_closed = True
        self.announce()

    @contextmanager
    def listen(self) -> Iterator[asyncio.Event]:
        """Yield an event that each delivery sets during the block; the listener clears it before it waits again."""
        listener = asyncio.Event()
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)
