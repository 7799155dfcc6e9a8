"""A source of flights whose record of a day appears in the night after, as OpenSky's does."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from chassis.clock import Clock
from collector.intervals import DAY, day_of
from collector.settled.evidence import DEFAULT_BEACONS
from collector.sources.flight import Flight
from domain.interests import Direction

RECORD_AFTER: Final = timedelta(hours=2, minutes=40)
"""Time after midnight (UTC) at which the record of the day that has ended is there, unless the test says otherwise."""

FetchCall = tuple[str, Direction, datetime, datetime]


def build_flight(first_seen: datetime, minutes: float = 60, number: int = 1) -> Flight:
    """Return a flight that lasts so many minutes, of aircraft `number`, at unknown airports."""
    begin = int(first_seen.timestamp())
    return Flight.model_validate({"icao24": f"{number:06x}", "firstSeen": begin, "lastSeen": begin + int(minutes * 60)})


def list_beacon_flights(begin: datetime, end: datetime) -> list[Flight]:
    """Return the flights of a beacon airport whose begin lies in [begin, end): one each half hour, of an hour each."""
    half_hours = range(int((end - begin) / timedelta(minutes=30)))
    return [build_flight(begin + number * timedelta(minutes=30), 29, 0xBEA000 + number % 48) for number in half_hours]


@dataclass
class NightlySource:
    """A source that gives the flights of a day only once the day's record is there; it fails as the test plans."""

    clock: Clock
    available: list[Flight] = field(default_factory=list)
    """Flights of the source, each a departure and an arrival at every airport that is no beacon."""
    silent: set[str] = field(default_factory=set)
    """Airports at which nobody listens: they have no flights."""
    beacons: Iterable[str] = DEFAULT_BEACONS
    """Airports with a flight each half hour of every day."""
    recorded_at: Callable[[datetime], datetime | None] = lambda day: day + DAY + RECORD_AFTER
    """The time at which the record of a day (UTC midnight) appears; None: never."""
    departures_at_once: bool = False
    """True: departures are given as they happen."""
    remaining_credits: int | None = None
    clock_error: timedelta | None = None
    reported_left: int | None = None
    """Credits left today, as the source reports in its answers."""
    shown_clock_error: timedelta | None = None
    """How far the service's clock is ahead of the source's, as the answers show."""
    calls: list[FetchCall] = field(default_factory=list)
    failures: list[BaseException | None] = field(default_factory=list)
    """Errors to raise, one per call; None: no error."""
    failing: dict[str, Exception] = field(default_factory=dict)
    """Errors to raise for an airport, at each call."""
    meanwhile: Callable[[], None] = lambda: None
    """Called between a request and its answer."""

    async def fetch_flights(self, airport: str, direction: Direction, begin: datetime, end: datetime) -> list[Flight]:
        """Record the call, fail if planned, and return the recorded flights, every second one twice."""
        self.calls.append((airport, direction, begin, end))
        self.remaining_credits, self.clock_error = self.reported_left, self.shown_clock_error
        if self.failures and (failure := self.failures.pop(0)):
            raise failure
        if airport in self.failing:
            raise self.failing[airport]
        answer = self.list_recorded(airport, direction, begin, end)
        await asyncio.to_thread(self.meanwhile)
        return answer + answer[::2]  # some twice

    def list_recorded(self, airport: str, direction: Direction, begin: datetime, end: datetime) -> list[Flight]:
        """Return the flights of [begin, end) that the source gives now."""
        if airport in self.silent:
            return []
        flights = list_beacon_flights(begin - DAY, end) if airport in self.beacons else self.available
        now = self.clock.now()
        return [
            each
            for each in flights
            if begin <= (at := each.event_time(direction)) < end and self._is_given(direction, at, now)
        ]

    def _is_given(self, direction: Direction, at: datetime, now: datetime) -> bool:
        """Return True if a flight with this event time is given at `now`, False if it is not recorded yet."""
        if self.departures_at_once and direction is Direction.DEPARTURES and at <= now:
            return True
        recorded_at = self.recorded_at(day_of(at))
        return recorded_at is not None and recorded_at <= now

    @property
    def questions(self) -> list[FetchCall]:
        """The calls for the last hours of a day: questions about the record."""
        return [call for call in self.calls if call[3] - call[2] == timedelta(hours=6)]

    @property
    def collections(self) -> list[FetchCall]:
        """The calls for the flights of an interval, all but the questions about the record."""
        return [call for call in self.calls if call[3] - call[2] != timedelta(hours=6)]
