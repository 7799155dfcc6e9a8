"""Previews: the alerts that an interest would raise on stored flights, so that a person can choose its thresholds.

There is one alert rule, `domain.rule`, and one fold, `domain.traffic`. The stored flights of an airport are folded as
if the collector had just observed them, so a preview has the same alerts as the stream has for an interest set now.
"""

import math
from bisect import bisect_left
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from domain.alerts import Alert
from domain.calendar import find_calendar
from domain.changes import NO_TRAFFIC
from domain.interest_alerts import compute_alerts
from domain.interests import Direction, Interest
from domain.rule import find_interest_grid
from domain.traffic import Coverage, Observation, Traffic
from domain.usual_fold import fold_with_usual
from domain.window_counts import WindowCounts
from domain.windows import HOUR_S, seconds

_WEEK: Final = timedelta(days=7)
_PIECE_S: Final = 24 * HOUR_S
"""Seconds that one made-up observation covers at most. So no direction is ahead of the other for long: what is usual in
both is known only as far back as both are retained."""


@dataclass(frozen=True, slots=True)
class FlightHistory:
    """The stored flights of one direction: in [begin, end), except the gaps, all flights that the source will give."""

    direction: Direction
    begin: int
    """Seconds since 1970, as all times here."""
    end: int
    event_times: Sequence[int]
    """One for each distinct flight, in order."""
    gaps: Sequence[tuple[int, int]] = ()
    """Intervals [begin, end) that the source will never give, in order."""

    def to_observations(self) -> Iterator[Observation]:
        """Yield the history as observations that the collector may have published, in order of time.

        The intervals between the gaps are COMPLETE, the gaps GAP; each is cut into pieces of at most a day. Together
        they cover [begin, end) with all flights in it, also those in the gaps.
        """
        at = self.begin
        for gap_begin, gap_end in self.gaps:
            yield from self._observe_interval(at, gap_begin, Coverage.COMPLETE)
            yield from self._observe_interval(gap_begin, gap_end, Coverage.GAP)
            at = gap_end
        yield from self._observe_interval(at, self.end, Coverage.COMPLETE)

    def _observe_interval(self, begin: int, end: int, coverage: Coverage) -> Iterator[Observation]:
        """Yield the observations of [begin, end), cut into intervals of at most a day, in order.

        Each holds the flights of its interval and has the same `coverage`. Nothing is yielded for an empty interval.
        """
        for start in range(begin, end, _PIECE_S):
            stop = min(start + _PIECE_S, end)
            times = self.event_times[bisect_left(self.event_times, start) : bisect_left(self.event_times, stop)]
            yield Observation(self.direction, start, stop, tuple(times), coverage)


@dataclass(frozen=True, slots=True)
class Preview:
    """The alerts that an interest would raise on stored flights, and the counts that its windows had."""

    alerts: tuple[Alert, ...]
    """All alerts, in the order of their windows. Each is a mail."""
    counts: tuple[int, ...]
    """Flights of each window that can be judged to its end, in order of time."""
    window: timedelta
    """The length of one window."""

    @property
    def mails_a_week(self) -> float | None:
        """The average number of alerts in seven days of windows that can be judged; None if no window can be."""
        known = len(self.counts) * self.window
        return len(self.alerts) * (_WEEK / known) if known else None


def fold_histories(airport: str, histories: Iterable[FlightHistory]) -> Traffic:
    """Return the traffic of an airport (ICAO code) that follows from its stored flights, with what is usual.

    `histories`: at most one for each direction; a direction without a history is not covered.
    """
    traffic, calendar = NO_TRAFFIC, find_calendar(airport)
    observations = [each for history in histories for each in history.to_observations()]
    # In the order of time, so that both directions have the same weeks before when a window is reached.
    for observation in sorted(observations, key=lambda each: each.begin):
        traffic = fold_with_usual(traffic, observation, calendar)
    return traffic


def preview(interest: Interest, histories: Iterable[FlightHistory]) -> Preview:
    """Return the alerts that an interest would raise at once if it were set now, and the counts of its windows.

    Both follow from the stored flights alone (`fold_histories`). An interest with a direction without a history gets no
    alerts and no counts.
    """
    return preview_traffic(interest, fold_histories(interest.airport, histories))


def preview_traffic(interest: Interest, traffic: Traffic) -> Preview:
    """Return the preview of an interest, as `preview` does, from the traffic of its airport."""
    return Preview(
        alerts=tuple(compute_alerts(interest, NO_TRAFFIC, traffic)),
        counts=tuple(_list_counts(interest, traffic)),
        window=interest.window.length,
    )


def _list_counts(interest: Interest, traffic: Traffic) -> Iterator[int]:
    """Yield the flights of each window since `effective_from` that is covered to its end and touched by no gap.

    In order of time. Nothing is yielded if a direction of the interest is not covered.
    """
    parts = traffic.select_directions(interest.direction)
    begins = [part.covered_from for part in parts if part.covered_from is not None]
    ends = [part.watermark for part in parts if part.watermark is not None]
    if len(begins) < len(parts) or len(ends) < len(parts):
        return
    grid = find_interest_grid(interest)
    first = grid.find_first_from(max(*begins, seconds(interest.effective_from)))
    windows = WindowCounts(traffic, interest.direction, grid)
    for number in range(first, grid.find_number(min(ends))):
        if windows[number].is_closed:
            yield windows[number].flights


def compute_percentile(counts: Iterable[int], percent: int) -> int:
    """Return the smallest of `counts` that at least `percent` % of them do not exceed (nearest rank).

    Raises ValueError if `counts` is empty.
    """
    ordered = sorted(counts)
    if not ordered:
        raise ValueError("there is no percentile of nothing")
    return ordered[max(math.ceil(len(ordered) * percent / 100), 1) - 1]


def explain_unknown(interest: Interest, known: Container[Direction]) -> str:
    """Return a sentence that says why no window of this interest can be judged. `known`: directions with coverage."""
    missing = [part for part in interest.direction.parts if part not in known]
    if missing:
        flights = "flights" if len(missing) == len(Direction.BOTH.parts) else missing[0].value
        return (
            f"Nothing is known of {interest.airport} yet: no {flights} there have been collected, so nobody can say "
            "how often this interest would alert; they are collected soon after somebody sets an interest."
        )
    return (
        f"Nothing is known of {interest.airport} yet for this interest: no whole window of {interest.window.value} "
        f"from {interest.effective_from:%Y-%m-%d %H:%M} (UTC) on has been collected, so nobody can say "
        "how often it would alert."
    )
