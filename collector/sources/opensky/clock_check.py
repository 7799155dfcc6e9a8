"""The comparison of the service's clock with the source's: each answer has a `Date` header (RFC 9110, section 6.6.1).

The service's clock may be wrong (a machine without NTP, a dead battery), or run thousands of times faster in a demo.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog

from chassis.clock import Clock
from chassis.metrics import Metrics
from collector.sources.opensky.answers import parse_date

log = structlog.get_logger()

TOLERATED_ERROR: Final = timedelta(minutes=2)
"""A larger error of the clock, in either direction, is logged as a warning."""
_LOG_INTERVAL: Final = timedelta(hours=1)
"""The warning is logged at most once in this period of elapsed time."""
_RESOLUTION: Final = timedelta(seconds=1)
"""Resolution of the `Date` header."""


@dataclass(frozen=True, slots=True)
class ClockReading:
    """A reading of the service's clock at one moment: the instant, and the elapsed time."""

    now: datetime
    elapsed: timedelta


def measure_clock_error(date: datetime, sent: ClockReading, received: ClockReading) -> timedelta:
    """Return how far the service's clock is ahead of the source's (negative: behind it). Pure.

    The source dated its answer after the request was sent and before the answer was received. The error is zero if
    `date` lies in that interval, widened by the header's resolution at both ends, else the distance to its nearer end.

    The length of the interval is the elapsed time between the readings. If the wall clock was set in between, each of
    the two readings gives an interval of its own, and the larger error is returned.
    """
    took = received.elapsed - sent.elapsed
    errors = (
        _measure_distance(date, sent.now, sent.now + took),
        _measure_distance(date, received.now - took, received.now),
    )
    return max(errors, key=abs)


def _measure_distance(date: datetime, begin: datetime, end: datetime) -> timedelta:
    """Return how far `date` lies before the interval (positive) or after it (negative), less the header's resolution.

    Returns zero if `date` lies in the interval, or within the resolution of one of its ends.
    """
    if date < begin - _RESOLUTION:
        return begin - _RESOLUTION - date
    return min(end + _RESOLUTION - date, timedelta(0))


class ClockCheck:
    """Compares the service's clock with each answer of the source; sets a gauge, and logs a warning."""

    def __init__(self, clock: Clock, metrics: Metrics) -> None:
        self._clock = clock
        self._logged_at: timedelta | None = None
        self._gauge = metrics.gauge(
            "opensky_clock_error_seconds",
            "How far our clock is ahead of the source's, by its last answer; NaN if that is unknown",
        ).labels()
        self._gauge.set(math.nan)

    def read_clock(self) -> ClockReading:
        """Return what the service's clock shows now, for a caller that sends a request or has received its answer."""
        return ClockReading(self._clock.now(), self._clock.elapsed())

    def compare_with_answer(
        self, headers: Mapping[str, str], sent: ClockReading, received: ClockReading
    ) -> timedelta | None:
        """Return how far the service's clock is ahead of the source's; None if the answer has no readable `Date`.

        Sets the gauge. Logs a warning, once per hour at most, if the error is larger than `TOLERATED_ERROR`.
        """
        date = parse_date(headers)
        if date is None:
            self._gauge.set(math.nan)
            return None
        error = measure_clock_error(date, sent, received)
        self._gauge.set(error.total_seconds())
        if abs(error) > TOLERATED_ERROR and (
            self._logged_at is None or received.elapsed - self._logged_at >= _LOG_INTERVAL
        ):
            self._logged_at = received.elapsed
            log.warning("opensky.clock_differs", ahead_s=error.total_seconds(), source_date=date.isoformat())
        return error
