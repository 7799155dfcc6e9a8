"""The signal that a mail was stored, from the mail server to the open pages."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class DeliverySignal:
    """Wakes every open page after a delivery. All methods are called in the event loop's thread."""

    def __init__(self) -> None:
        self._listeners: set[asyncio.Event] = set()
        self.is_closed = False
        """True once the server stops: listeners end."""

    def announce(self) -> None:
        """Set the event of every listener."""
        for listener in self._listeners:
            listener.set()

    def close(self) -> None:
        """Wake every listener for the last time, with `is_closed` True."""
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
