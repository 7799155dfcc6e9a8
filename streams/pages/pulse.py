"""Samples of a worker's health: the lag of its event loop and the growth rates of its counters."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

SAMPLE_INTERVAL_S: Final = 1.0
KEPT_SAMPLES: Final = 60
"""Samples of the event loop's lag that are kept: one minute."""


@dataclass(frozen=True, slots=True)
class LoopLag:
    """The lag of the event loop in milliseconds: the delay with which a sleeping task wakes up."""

    newest_ms: float
    median_ms: float
    """Median; of an even number of samples, the larger of the middle two."""
    most_ms: float


class WorkerSampler:
    """A sampler of the event loop's lag and of counters, once a second while the task `take_samples` runs.

    It keeps one minute of lags and ten seconds of counters, from which the pages get lags and rates.
    """

    def __init__(
        self,
        counts: Callable[[], Mapping[str, int]],
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = asyncio.sleep,
    ) -> None:
        """`counts`: returns the counters' present values, by name, which grow from 0 since the worker's start.

        `monotonic` and `sleep`: in seconds.
        """
        self._counts = counts
        self._monotonic = monotonic
        self._sleep = sleep
        self._started_at = monotonic()
        self._lags: deque[float] = deque(maxlen=KEPT_SAMPLES)
        self._samples: deque[tuple[float, dict[str, int]]] = deque([(self._started_at, {})], maxlen=11)

    async def take_samples(self) -> None:
        """Take a sample of lag and counters each second, until the task is cancelled; the first after one second.

        The lag is the time by which a sleep of one second took longer.
        """
        while True:
            due = self._monotonic() + SAMPLE_INTERVAL_S
            await self._sleep(SAMPLE_INTERVAL_S)  # type: ignore[misc]
            now = self._monotonic()
            self._lags.append(max(now - due, 0.0))
            self._samples.append((now, dict(self._counts())))

    @property
    def uptime_s(self) -> float:
        """Seconds since the sampler was created, which is when the worker creates its app."""
        return self._monotonic() - self._started_at

    def compute_loop_lag(self) -> LoopLag | None:
        """Return the newest, median and largest lag of the last minute; None before the first sample."""
        if not self._lags:
            return None
        ordered = sorted(self._lags)
        return LoopLag(*(round(1000 * lag, 1) for lag in (self._lags[-1], ordered[len(ordered) // 2], ordered[-1])))

    def compute_rate(self, name: str) -> float:
        """Return the growth of a counter per second over the last ten samples, or since the start if they are fewer.

        0 before the first sample, and for a name that was never counted.
        """
        (began, before), (ended, after) = self._samples[0], self._samples[-1]
        growth = after.get(name, 0) - before.get(name, 0)
        return growth / (ended - began) if ended > began else 0.0
