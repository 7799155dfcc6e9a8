"""An event loop with virtual time: a wait of an hour takes no real time. And a clock that shows the loop's time."""

import asyncio
import selectors
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

BEGIN = datetime(2026, 11, 23, tzinfo=UTC)
"""The time that `LoopClock` shows when a loop starts."""


class _VirtualTimeSelector(selectors.DefaultSelector):
    """A selector that never waits: it advances the virtual time by the timeout instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        """Virtual seconds since the start of the loop."""

    def select(self, timeout: float | None = None) -> list[Any]:
        """Return the ready files at once; if none is ready, advance the virtual time by `timeout` seconds.

        Fails if no file is ready and no timer is set: then all tasks would wait for ever.
        """
        found = super().select(0)
        if found:
            return found
        if timeout is None:
            raise AssertionError("everybody waits, and for nothing")
        self.now += max(timeout, 0.0)
        return []


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose timers need no real time: when all tasks wait, the time jumps to the next timer."""

    def __init__(self) -> None:
        self._virtual_selector = _VirtualTimeSelector()
        super().__init__(self._virtual_selector)

    def time(self) -> float:
        return self._virtual_selector.now


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine to its end in virtual time, like `asyncio.run`."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main)


class LoopClock:
    """A clock that shows the running loop's time, as UTC from `BEGIN` on."""

    def now(self) -> datetime:
        return BEGIN + self.elapsed()

    def elapsed(self) -> timedelta:
        return timedelta(seconds=asyncio.get_running_loop().time())

    def real_seconds(self, duration: timedelta) -> float:
        return max(duration.total_seconds(), 0.0)


class WildWallClock(LoopClock):
    """A wall clock that somebody sets or stops while the loop's time goes on."""

    def __init__(self) -> None:
        self._ahead = timedelta(0)
        self._stopped_at: datetime | None = None

    def now(self) -> datetime:
        return self._stopped_at or super().now() + self._ahead

    def set_ahead(self, ahead: timedelta) -> None:
        """Let the clock show the true time plus `ahead` from now on, and run."""
        self._ahead, self._stopped_at = ahead, None

    def stop(self) -> None:
        """Let the clock show what it shows now, until `set_ahead`."""
        self._stopped_at = self.now()
