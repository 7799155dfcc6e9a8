"""An event loop in which an hour takes no time, and a clock that shows its time."""

import asyncio
import selectors
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

BEGIN = datetime(2026, 11, 23, tzinfo=UTC)
"""What the clock shows when a loop begins."""


class _Hurried(selectors.DefaultSelector):
    """Waits for nothing: time passes instead."""

    def __init__(self) -> None:
        super().__init__()
        self.at = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        found = super().select(0)
        if found:
            return found
        if timeout is None:
            raise AssertionError("everybody waits, and for nothing")
        self.at += max(timeout, 0.0)
        return []


class HurriedLoop(asyncio.SelectorEventLoop):
    """An event loop in which an hour takes no time."""

    def __init__(self) -> None:
        self._hurried = _Hurried()
        super().__init__(self._hurried)

    def time(self) -> float:
        return self._hurried.at


def run(story: Coroutine[Any, Any, None]) -> None:
    """Run in hurried time."""
    with asyncio.Runner(loop_factory=HurriedLoop) as runner:
        runner.run(story)


class LoopClock:
    """The time of the loop, as an instant."""

    def now(self) -> datetime:
        return BEGIN + timedelta(seconds=asyncio.get_running_loop().time())

    def real_seconds(self, duration: timedelta) -> float:
        return max(duration.total_seconds(), 0.0)
