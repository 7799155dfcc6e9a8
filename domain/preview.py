"""What an interest would have said of traffic that is already known, so that a person can choose its thresholds.

There is one alert rule, `domain.rule`, and one fold, `domain.traffic`: what is stored of an airport is told to
them as if the collector had just observed it, and what they say is what the stream says of an interest set now.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from domain.alerts import Alert
from domain.changes import NO_TRAFFIC, alerts_between
from domain.interests import Direction, Interest
from domain.traffic import LONGEST_INTERVAL_S, Coverage, Observation, Traffic
from domain.windows import HOUR_S, seconds

_WEEK: Final = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class FlightHistory:
    """What is stored of one direction: in [begin, end), but for the gaps, all flights that the source will give."""

    direction: Direction
    begin: int
    """Seconds since 1970, as are all times here."""
    end: int
    event_times: Sequence[int]
    """One for each distinct flight, in order."""
    gaps: Sequence[tuple[int, int]] = ()
    """Stretches [begin, end) that the source will never give, in order."""

    def observations(self) -> Iterator[Observation]:
        """The history as the collector may have published it."""
        at = self.begin
        for gap_begin, gap_end in self.gaps:
            yield from self._interval(at, gap_begin, Coverage.COMPLETE)
            yield from self._interval(gap_begin, gap_end, Coverage.GAP)
            at = gap_end
        yield from self._interval(at, self.end, Coverage.COMPLETE)

    def _interval(self, begin: int, end: int, coverage: Coverage) -> Iterator[Observation]:
        for start in range(begin, end, LONGEST_INTERVAL_S):
            stop = min(start + LONGEST_INTERVAL_S, end)
            times = self.event_times[bisect_left(self.event_times, start) : bisect_left(self.event_times, stop)]
            yield Observation(self.direction, start, stop, tuple(times), coverage)


@dataclass(frozen=True, slots=True)
class Preview:
    """What would have been said."""

    alerts: tuple[Alert, ...]
    """All of it, in the order of the windows. Each is a mail."""
    counts: tuple[int, ...]
    """Flights of each window that can be judged to its end, in order of time."""
    window: timedelta

    @property
    def mails_a_week(self) -> float | None:
        """As many as in the windows that can be judged; None where there are none."""
        known = len(self.counts) * self.window
        return len(self.alerts) * (_WEEK / known) if known else None


def preview(interest: Interest, histories: Iterable[FlightHistory]) -> Preview:
    """What an interest, were it set now, would say at once; of a direction without a history nothing is known."""
    traffic = NO_TRAFFIC
    for history in histories:
        for observation in history.observations():
            traffic = traffic.fold(observation)
    return Preview(
        alerts=tuple(alerts_between(interest, NO_TRAFFIC, traffic)),
        counts=tuple(_counts(interest, traffic)),
        window=interest.window.length,
    )


def _counts(interest: Interest, traffic: Traffic) -> Iterator[int]:
    """By window that is known from its beginning to its end, and that the interest is for."""
    flows = traffic.flows(interest.direction)
    begins = [flow.covered_from for flow in flows if flow.covered_from is not None]
    ends = [flow.watermark for flow in flows if flow.watermark is not None]
    if len(begins) < len(flows) or len(ends) < len(flows):
        return
    hours = interest.window.hours
    length = hours * HOUR_S
    first = -(-max(*begins, seconds(interest.effective_from)) // length)
    for number in range(first, min(ends) // length):
        start = number * length
        if not any(flow.has_gap_in(start, start + length) for flow in flows):
            yield sum(flow.counts.total(number * hours, hours) for flow in flows)


def percentile(counts: Iterable[int], percent: int) -> int:
    """The smallest count that so many percent of all counts do not exceed (nearest rank). Raises ValueError on none."""
    ordered = sorted(counts)
    if not ordered:
        raise ValueError("there is no percentile of nothing")
    return ordered[max(math.ceil(len(ordered) * percent / 100), 1) - 1]
