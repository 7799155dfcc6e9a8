"""Computes by brute force, from the timetable, the alerts of thresholds in percent that must be mailed.

It follows the text of the rule (docs/design.md) and uses none of its code: it steps through the airport's local time in
quarters of an hour, counts each window anew, and takes the median of a list.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property, lru_cache
from statistics import median
from typing import Final
from zoneinfo import ZoneInfo

from domain.airports import find_airport
from domain.alerts import AlertState, Bound
from domain.interests import Interest
from domain.windows import AlignedTo
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
"""Time before a window in which the windows before it are searched for; earlier ones are ignored."""


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

    @cached_property
    def _known_times(self) -> Sequence[datetime]:
        """The movements without those of the missing days."""
        return [
            at for at in self.times if at.replace(hour=0, minute=0, second=0, microsecond=0) not in self.missing_days
        ]

    @property
    def _is_local(self) -> bool:
        """True if the interest's windows begin by the airport's clock; False: by UTC."""
        return self.interest.aligned_to is AlignedTo.AIRPORT

    def find_end(self, start: datetime) -> datetime:
        """Return the end of the window that begins at `start`."""
        if not self._is_local:
            return start + self.interest.window.length
        return _find_first(self._zone, self.interest.window.hours, start, _after(self._name_window(start)))

    def _name_window(self, start: datetime) -> "_Name":
        """Return the date and the part of the day that the airport's clock shows at an instant."""
        return _look_at_clock(self._zone, self.interest.window.hours, start)

    def find_first_start(self) -> datetime:
        """Return the start of the first window from `effective_from` on."""
        since = self.interest.effective_from
        if not self._is_local:
            length, start = self.interest.window.length, datetime(1970, 1, 1, tzinfo=UTC)
            return start - ((start - since) // length) * length
        name, hours = self._name_window(since), self.interest.window.hours
        begin = _find_first(self._zone, hours, since - timedelta(days=2), name)
        return begin if begin >= since else self.find_end(begin)

    def count(self, start: datetime) -> int:
        """Return the number of known movements in the window that begins at `start`."""
        return bisect_left(self._known_times, self.find_end(start)) - bisect_left(self._known_times, start)

    def is_known(self, start: datetime) -> bool:
        """Return True if all movements of the window that begins at `start` are known, else False."""
        end = self.find_end(start)
        return start >= self.known_from and not any(
            day < end and start < day + timedelta(days=1) for day in self.missing_days
        )

    def list_base_windows(self, start: datetime) -> list[datetime]:
        """Return the starts of the same window, by the airport's clock, of the five weeks before, if there is one."""
        if self._is_local:
            return self._list_local_bases(start)
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

    def _list_local_bases(self, start: datetime) -> list[datetime]:
        """Return the starts of the windows with the same name, but for the date, of the five weeks before."""
        day, part = self._name_window(start)
        bases = []
        for week in range(1, _WEEKS + 1):
            wanted = day - timedelta(weeks=week), part
            about = start - timedelta(weeks=week, days=2)
            base = _find_first(self._zone, self.interest.window.hours, about, wanted)
            if self._name_window(base) == wanted:
                bases.append(base)
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
        """Yield the alerts of one threshold in percent about the windows from `effective_from` to `end`, in order.

        Of a window that does not end by then, or of which a part is missing, a high threshold may be passed already.
        """
        interest = self.interest
        before: list[_Judged] = []
        """The windows right before that were judged, oldest first; a window that is not known empties it."""
        start = self.find_first_start()
        while start < end:
            usual = self.compute_usual(start) if start >= self.known_from else None
            if usual is None:
                before = []
            elif usual >= _LEAST_USUAL:
                count, is_whole = self.count(start), self.is_known(start) and self.find_end(start) <= end
                share, wanted = 200 * count, percent * round(2 * usual)
                judged = _Judged(start, count, usual, share > wanted if bound is Bound.HIGH else share < wanted)
                was, now = self._is_in_breach(before, start), self._is_in_breach([*before, judged], start)
                state = _choose_state(was, now, interest.repeat)
                if state is not None and (is_whole or (bound is Bound.HIGH and now)):
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
                before = [*before, judged] if is_whole else []
            start = self.find_end(start)

    def _is_in_breach(self, judged: Sequence[_Judged], at: datetime) -> bool:
        """Return True if the last windows, as many as the interest wants in a row, are past the threshold.

        False if one of them is not, or if there are fewer. `at`: the start of the window that is judged; windows that
        begin more than 31 days before it, by the clock by which windows begin, are ignored.
        """
        zone = self._zone if self._is_local else UTC
        since = at.astimezone(zone).replace(tzinfo=None) - _REMEMBERED
        remembered = [each for each in judged if each.start.astimezone(zone).replace(tzinfo=None) >= since]
        run = remembered[-self.interest.for_windows :]
        return len(run) == self.interest.for_windows and all(each.is_past for each in run)


_Name = tuple[date, int]
"""The date and the part of the day of a window by an airport's clock."""


def _look_at_clock(zone: ZoneInfo, hours: int, at: datetime) -> _Name:
    """Return the date, and the part of the day of this many hours, that a clock shows at an instant."""
    shown = at.astimezone(zone)
    return shown.date(), shown.hour // hours


def _after(name: _Name) -> _Name:
    """Return a name that lies after a window's name, and not after that of any later window."""
    return name[0], name[1] + 1


@lru_cache(maxsize=4_096)
def _find_first(zone: ZoneInfo, hours: int, since: datetime, name: _Name) -> datetime:
    """Return the first instant from `since` on at which a clock shows a name or a later one, by looking at it.

    Windows begin at such instants. It is looked at every quarter of an hour; `since`: a whole quarter.
    """
    at = since
    while _look_at_clock(zone, hours, at) < name:
        at += _QUARTER
    return at


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
