"""Logs of weeks, in which windows have a usual, and the usual that follows from a log by its text alone."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import pairwise
from random import Random
from statistics import median
from zoneinfo import ZoneInfo

from domain.interests import Direction
from domain.traffic import Coverage, Observation
from domain.windows import HOUR_S, instant, seconds
from tests.domain.brute_force import LENGTHS, Log, list_local_starts

DAY_S = 24 * HOUR_S
WEEK = timedelta(days=7)
CLOCKS = {
    "UTC": (datetime(2013, 3, 20, tzinfo=UTC),),
    "America/New_York": (
        datetime(2013, 3, 31, tzinfo=UTC),  # three weeks after clocks went forward
        datetime(2013, 11, 3, tzinfo=UTC),  # when they went back
    ),
    "Australia/Lord_Howe": (
        datetime(2013, 10, 27, tzinfo=UTC),  # three weeks after half an hour of summer time
        datetime(2013, 4, 7, tzinfo=UTC),  # after its end
    ),
    "Pacific/Apia": (
        datetime(2012, 1, 27, tzinfo=UTC),  # four weeks after a day that did not exist
        datetime(2011, 12, 31, tzinfo=UTC),  # after that day
    ),
    "Europe/Rome": (datetime(2013, 11, 3, tzinfo=UTC),),  # one week after clocks went back
    "Pacific/Honolulu": (datetime(2013, 5, 1, tzinfo=UTC),),  # 10 hours behind UTC, always
    "Asia/Kathmandu": (datetime(2013, 5, 1, tzinfo=UTC),),  # 5:45 hours ahead of UTC, always
    "Australia/Adelaide": (datetime(2013, 10, 20, tzinfo=UTC),),  # 9:30, two weeks after clocks went forward
    "Pacific/Chatham": (datetime(2013, 4, 14, tzinfo=UTC),),  # 12:45, a week after clocks went back
    "Africa/Cairo": (datetime(2014, 5, 20, tzinfo=UTC),),  # days after a midnight that did not exist
}
"""Zones, each with days on which, or in whose five weeks before, something happens to its clocks."""


@dataclass(frozen=True)
class UsualLog:
    """A log of some weeks and then of some detailed hours at an airport whose clocks are those of `zone`."""

    zone: str
    begin: datetime
    """Where the detailed part begins."""
    past: tuple[Observation, ...]
    """The weeks before: some messages that cover days each."""
    present: tuple[Observation, ...]
    """Messages of hours, with corrections of them and of the past."""

    @property
    def messages(self) -> tuple[Observation, ...]:
        """All messages, in their order."""
        return self.past + self.present


def generate_usual_log(chance: Random) -> UsualLog:
    """Generate a log of four to six weeks of days and then some hours, of one or both directions.

    Flights depend on the weekday and the hour, and on chance, so that hours have a usual above and below 5. The past
    has gaps and days that were never told. The present has gaps, partial messages ahead of the coverage, late and
    retracted flights, also of the past, and gaps of the past that are filled.
    """
    zone = chance.choice(list(CLOCKS))
    day = seconds(chance.choice(CLOCKS[zone])) + chance.randint(-9, 9) * DAY_S
    directions = (Direction.DEPARTURES,) if chance.random() < 0.5 else Direction.BOTH.parts
    writer = _Writer(chance)
    first = day - chance.choice((16, 22, 28, 29, 35, 35, 36, 38)) * DAY_S
    past = [message for part in directions for message in writer.tell_past(part, first, day)]
    past.sort(key=lambda message: message.begin)
    present = writer.tell_present(directions, day)
    return UsualLog(zone, instant(day), tuple(past), tuple(present))


@dataclass
class _Writer:
    """The generator of a log's messages: it remembers their flights, by direction, so that it can retract some."""

    chance: Random
    seen: dict[Direction, list[tuple[int, int]]] = field(default_factory=lambda: {part: [] for part in Direction})

    def tell_past(self, direction: Direction, first: int, end: int) -> Iterable[Observation]:
        """Yield messages about [first, end) of one direction, of one to seven days; some are gaps, some missing."""
        begin = first
        while begin < end:
            until = min(begin + self.chance.choice((1, 1, 2, 3, 7)) * DAY_S, end)
            kind = self.chance.random()
            if kind < 0.08:
                yield Observation(direction, begin, until, (), Coverage.GAP)
            elif kind < 0.95:
                yield self._add_flights(Observation(direction, begin, until, (), Coverage.COMPLETE))
            begin = until

    def tell_present(self, directions: tuple[Direction, ...], day: int) -> list[Observation]:
        """Return messages about some hours to two days from `day` on, with corrections of all kinds in between."""
        front = dict.fromkeys(directions, day)
        told: list[Observation] = []
        for _ in range(self.chance.randint(5, 14)):
            direction = self.chance.choice(directions)
            begin = front[direction]
            if begin > min(front.values()) + 2 * DAY_S:
                continue
            kind = self.chance.random()
            if kind < 0.2:
                back = self.chance.choice((2, 6, 24, 7 * 24, 14 * 24, 15 * 24)) * HOUR_S
                message = Observation(direction, begin - back, begin - back + 6 * HOUR_S, (), Coverage.COMPLETE)
                told.append(self._correct(message))
                continue
            length = self.chance.choice((1, 1, 2, 2, 3, 3, 6, 12, 24, 30)) * HOUR_S // self.chance.choice((1, 1, 2, 4))
            if kind < 0.4:
                ahead = Observation(direction, begin, begin + 6 * HOUR_S, (), Coverage.PARTIAL)
                told.append(self._add_flights(ahead))
            coverage = Coverage.GAP if kind > 0.93 else Coverage.COMPLETE
            message = Observation(direction, begin, begin + length, (), coverage)
            if coverage is Coverage.COMPLETE:
                message = self._add_flights(message)
            if self.chance.random() < 0.15:
                message = self._correct(message)
            told.append(message)
            front[direction] = begin + length
        return told

    def _add_flights(self, message: Observation) -> Observation:
        """Return a message with the flights of its interval: by weekday and hour, with some chance."""
        times: list[int] = []
        for hour in range(message.begin // HOUR_S, -(-message.end // HOUR_S)):
            usual = (0, 3, 6, 7, 9, 9)[(hour % 24 + hour // 24 % 7) % 6] if hour % 24 in range(2, 18) else 0
            flights = max(usual + self.chance.choice((-3, -1, 0, 0, 1, 3, -usual, usual)), 0) if usual else 0
            spread = (hour * HOUR_S + 60 * (7 * n % 60) for n in range(flights))  # over all quarters of the hour
            times += [at for at in spread if message.begin <= at < message.end]
        return self._with_flights(message, times)

    def _correct(self, message: Observation) -> Observation:
        """Return a message with late flights, with retracted flights, or with both."""
        seen = [flight for flight in self.seen[message.direction] if message.begin - DAY_S <= flight[0] < message.end]
        taken = self.chance.sample(seen, min(len(seen), self.chance.randint(0, 12)))
        late = [message.begin + self.chance.randrange(-DAY_S, HOUR_S) for _ in range(self.chance.choice((0, 0, 3, 8)))]
        times = [at for at in late if at < message.end]
        return replace(self._with_flights(message, list(message.event_times) + times), retracted=tuple(taken))

    def _with_flights(self, message: Observation, times: list[int]) -> Observation:
        """Return a message with flights at these times, each with a fingerprint of its own; they are remembered."""
        seen = self.seen[message.direction]
        known = len(message.fingerprints)
        flights = [(at, len(seen) + number) for number, at in enumerate(times[known:], start=1)]
        seen += flights
        fingerprints = message.fingerprints + tuple(fingerprint for _, fingerprint in flights)
        return replace(message, event_times=tuple(times), fingerprints=fingerprints)


@cache
def find_bases(zone: str, start: datetime) -> list[datetime | None]:
    """Return the first instants at which the clock showed the same time on the same weekday of the five weeks before.

    Steps through all quarters of an hour of the days around them, and looks at the clock; None: it never showed it.
    """
    clock = ZoneInfo(zone)
    bases = []
    for weeks in range(1, 6):
        wanted = start.astimezone(clock).replace(tzinfo=None) - weeks * WEEK
        quarters = (start - weeks * WEEK + timedelta(minutes=15 * n) for n in range(-27 * 4, 27 * 4))
        bases.append(next((at for at in quarters if at.astimezone(clock).replace(tzinfo=None) == wanted), None))
    return bases


Interval = tuple[datetime, datetime]
"""Start and end of a window."""


def list_utc_windows(zone: str, window: str, since: datetime) -> Iterator[tuple[Interval, list[Interval | None]]]:
    """Yield, without end, the windows by UTC from `since` on, each with its base windows; None: it is no window."""
    length = LENGTHS[window]
    midnight = since.replace(hour=0, minute=0, second=0, microsecond=0)
    start = midnight + -(-(since - midnight) // length) * length
    while True:
        bases = [
            (base, base + length)
            if base is not None and not (base - datetime(1970, 1, 1, tzinfo=UTC)) % length
            else None
            for base in find_bases(zone, start)
        ]
        yield (start, start + length), bases
        start += length


def list_local_windows(zone: str, window: str, since: datetime) -> Iterator[tuple[Interval, list[Interval | None]]]:
    """Yield the windows by a zone's clock from `since` on for some weeks, each with its base windows.

    A window is named by the date and the quarter of the day that the clock shows when somebody who looks at it every
    quarter of an hour sees it begin. Its base windows have its name, but for the date; None: no window had that name.
    """
    hours, clock = LENGTHS[window] // timedelta(hours=1), ZoneInfo(zone)
    first = since.replace(minute=0, second=0, microsecond=0) - timedelta(days=40)
    named: dict[tuple[date, int], Interval] = {}
    for start, end in pairwise(list_local_starts(zone, hours, first, first + timedelta(days=70))):
        shown = start.astimezone(clock)
        named[shown.date(), shown.hour // hours] = start, end
    for (day, place), interval in named.items():
        if interval[0] >= since:
            yield interval, [named.get((day - weeks * WEEK, place)) for weeks in range(1, 6)]


class ModelUsual:
    """The model of the usual counts of windows of one length and direction, which are fixed message by message.

    The model keeps all flights, and finds base windows by stepping through the local time.
    """

    def __init__(self, zone: str, window: str, since: datetime, *, is_local: bool = False) -> None:
        """Only windows that start at `since` or later are of interest. `is_local`: windows by the zone's own clock."""
        self._windows = (list_local_windows if is_local else list_utc_windows)(zone, window, since)
        self._next, self._bases = next(self._windows)
        self.ends: dict[datetime, datetime] = {}
        """The end of each window that was reached, by its start."""
        self.fixed: dict[datetime, float | None] = {}
        """The usual count by start of each window that was reached; None: none. Medians of integers are exact."""

    def fix_reached(self, logs: list[Log]) -> None:
        """Fix the usual counts of the windows that the coverage of all directions has reached now."""
        if any(log.covered is None for log in logs):
            return
        reached = min(log.covered[1] for log in logs)
        flights = sorted(flight for log in logs for flight in log.flights)
        while self._next[0] <= reached:
            counts = [self._count(logs, flights, base) for base in self._bases]
            known = [count for count in counts if count is not None]
            start, self.ends[start] = self._next
            self.fixed[start] = median(known) if len(known) >= 3 else None
            self._next, self._bases = next(self._windows)

    def _count(self, logs: list[Log], flights: list[datetime], interval: Interval | None) -> int | None:
        """Return the number of flights of a base window; None if it is no window, or its flights are not known."""
        if interval is None:
            return None
        base, end = interval
        for log in logs:
            if base < log.covered[0] or end > log.covered[1]:
                return None
            if any(first < end and last > base for first, last in log.gaps):
                return None
        return bisect_left(flights, end) - bisect_left(flights, base)
