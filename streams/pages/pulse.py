"""The worker's pulse: how late its event loop is, and how fast messages come and go. Samples of the last minute."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

SAMPLE_S: Final = 1.0
REMEMBERED: Final = 60
"""Samples."""


@dataclass(frozen=True, slots=True)
class LoopLag:
    """How late the event loop was to wake a sleeper, in milliseconds: what else waits as long."""

    newest_ms: float
    median_ms: float
    most_ms: float


class Pulse:
    """Samples, taken by `beat` for as long as it runs."""

    def __init__(
        self,
        counts: Callable[[], Mapping[str, int]],
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = asyncio.sleep,
    ) -> None:
        """`counts`: what has been counted so far, by name; rates are how fast these grow."""
        self._counts = counts
        self._monotonic = monotonic
        self._sleep = sleep
        self._began = monotonic()
        self._lags: deque[float] = deque(maxlen=REMEMBERED)
        self._samples: deque[tuple[float, dict[str, int]]] = deque([(self._began, {})], maxlen=11)

    async def beat(self) -> None:
        """Take a sample each second, until cancelled."""
        while True:
            due = self._monotonic() + SAMPLE_S
            await self._sleep(SAMPLE_S)  # type: ignore[misc]
            now = self._monotonic()
            self._lags.append(max(now - due, 0.0))
            self._samples.append((now, dict(self._counts())))

    @property
    def uptime_s(self) -> float:
        """Since the worker was put together."""
        return self._monotonic() - self._began

    def loop_lag(self) -> LoopLag | None:
        """Of the last minute; None before the first sample."""
        if not self._lags:
            return None
        ordered = sorted(self._lags)
        return LoopLag(*(round(1000 * lag, 1) for lag in (self._lags[-1], ordered[len(ordered) // 2], ordered[-1])))

    def rate(self, name: str) -> float:
        """How fast a count grew over the last ten samples, a second."""
        (began, before), (ended, after) = self._samples[0], self._samples[-1]
        grown = after.get(name, 0) - before.get(name, 0)
        return grown / (ended - began) if ended > began else 0.0
