"""Computes by brute force, from the timetable, the alerts of thresholds in percent that must be mailed.

It follows the text of the rule (docs/design.md) and uses none of its code: it steps through the airport's local time in
quarters of an hour, counts each window anew, and takes the median of a list.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from statistics import median
from typing import Final
from zoneinfo import ZoneInfo

from domain.airports import find_airport
from domain.alerts import AlertState, Bound
from domain.interests import Interest
from notifier.mail.alert_header import AlertHeaderFields

_WEEKS: Final = 5
"""Number of base windows."""
_FEWEST_WEEKS: Final = 3
"""Known base windows without which a window has no usual."""
_LEAST_USUAL: Final = 5
"""Usual flights below which a window is skipped."""
_QUARTER: Final = timedelta(minutes=15)
_QUARTERS_APART: Final = 12
"""Largest change of the offset from UTC within the weeks before, in quarters of an hour."""
_REMEMBERED: Final = timedelta(days=31)
"""How long before a window the windows before it are searched for; earlier ones are ignored."""


@dataclass(frozen=True)
class _Judged:
    """A window that has a usual and is not skipped."""

    start: datetime
    count: int
    usual: float
    is_past: bool
    """True if its count is past the threshold."""


@dataclass(frozen=True)
class PercentTruth:
    """The movements of an airport, and which of them are known: the facts by which percents are judged."""

    interest: Interest
    times: Sequence[datetime]
    """All movements of the interest's direction, in order."""
    known_from: datetime
    """Before this instant nothing is known."""
    missing_days: frozenset[datetime]
    """UTC midnights of days of which nothing is known."""

    @cached_property
    def _zone(self) -> ZoneInfo:
        """The airport's time zone."""
        airport = find_airport(self.interest.airport)
        return ZoneInfo("UTC" if airport is None else airport.time_zone)

    def count(self, start: datetime) -> int:
        """Return the number of movements in the window that begins at `start`."""
        return bisect_left(self.times, start + self.interest.window.length) - bisect_left(self.times, start)

    def is_known(self, start: datetime) -> bool:
        """Return True if all movements of the window that begins at `start` are known, else False."""
        end = start + self.interest.window.length
        return start >= self.known_from and not any(
            day < end and start < day + timedelta(days=1) for day in self.missing_days
        )

    def list_base_windows(self, start: datetime) -> list[datetime]:
        """Return the starts of the same window, by the airport's clock, of the five weeks before, if there is one."""
        shown = start.astimezone(self._zone).replace(tzinfo=None)
        bases = []
        for week in range(1, _WEEKS + 1):
            about, wanted = start - timedelta(weeks=week), shown - timedelta(weeks=week)
            for quarters in range(-_QUARTERS_APART, _QUARTERS_APART + 1):
                instant = about + quarters * _QUARTER
                if instant.astimezone(self._zone).replace(tzinfo=None) == wanted:
                    if (instant - datetime(1970, 1, 1, tzinfo=UTC)) % self.interest.window.length == timedelta(0):
                        bases.append(instant)
                    break
        return bases

    def compute_usual(self, start: datetime) -> float | None:
        """Return the median of the base windows that are known, an integer or a half; None if fewer than three are."""
        counts = [self.count(base) for base in self.list_base_windows(start) if self.is_known(base)]
        return median(counts) if len(counts) >= _FEWEST_WEEKS else None

    def compute_threshold(self, bound: Bound, percent: int, usual: float) -> int:
        """Return the flights that a percent makes of a usual: more (HIGH), or fewer (LOW), are past the threshold."""
        whole, rest = divmod(percent * round(2 * usual), 200)
        return whole + (1 if rest and bound is Bound.LOW else 0)

    def list_alerts(self, bound: Bound, percent: int, end: datetime) -> Iterator[AlertHeaderFields]:
        """Yield the alerts of one threshold in percent about the windows from `effective_from` to `end`, in order."""
        interest = self.interest
        before: list[_Judged] = []
        """The windows right before that were judged, oldest first; a window of which nothing is known empties it."""
        length = interest.window.length
        start = datetime(1970, 1, 1, tzinfo=UTC)
        start += -((start - interest.effective_from) // length) * length
        while start + length <= end:
            usual = self.compute_usual(start) if self.is_known(start) else None
            if usual is None:
                before = []
            elif usual >= _LEAST_USUAL:
                count = self.count(start)
                share, wanted = 200 * count, percent * round(2 * usual)
                judged = _Judged(start, count, usual, share > wanted if bound is Bound.HIGH else share < wanted)
                was, now = self._is_in_breach(before, start), self._is_in_breach([*before, judged], start)
                state = _choose_state(was, now, interest.repeat)
                if state is not None:
                    yield AlertHeaderFields(
                        airport=interest.airport,
                        direction=interest.direction,
                        window=interest.window,
                        bound=bound,
                        state=state,
                        window_start=start,
                        count=count,
                        threshold=self.compute_threshold(bound, percent, usual),
                    )
                before.append(judged)
            start += length

    def _is_in_breach(self, judged: Sequence[_Judged], at: datetime) -> bool:
        """Return True if the last windows, as many as the interest wants in a row, are past the threshold.

        `at`: the start of the window for which that is asked; windows over 31 days before it are ignored.
        """
        run = [each for each in judged if each.start >= at - _REMEMBERED][-self.interest.for_windows :]
        return len(run) == self.interest.for_windows and all(each.is_past for each in run)


def _choose_state(was: bool, now: bool, repeat: bool) -> AlertState | None:
    """Return the state of a window's alert; None: no alert. `was`, `now`: True if in breach before it, and in it."""
    match was, now:
        case False, True:
            return AlertState.FIRING
        case True, False:
            return AlertState.RESOLVED
        case True, True if repeat:
            return AlertState.STILL
        case _:
            return None
