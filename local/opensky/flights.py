"""Flights and the questions that OpenSky answers about them. Pure: no clock, no files, no HTTP.

Instants are Unix seconds, because that is what OpenSky speaks; bounds are inclusive at both ends, as OpenSky's are.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import NamedTuple

Instant = Callable[["Flight"], int]
_FIRST_SEEN: Instant = attrgetter("first_seen")
_LAST_SEEN: Instant = attrgetter("last_seen")


class Flight(NamedTuple):
    """A flight as it is known once it is over. (A named tuple, for 328,000 of them must be made in no time.)"""

    first_seen: int
    last_seen: int
    icao24: str
    callsign: str
    departure_airport: str
    arrival_airport: str | None
    """None when the flight never came to where it was bound, or, `as_seen_at` an earlier instant, has not yet."""

    def as_seen_at(self, now: int) -> "Flight":
        """What is known at `now`, not before `first_seen`: one in the air was last seen now and has not arrived."""
        return self if now >= self.last_seen else self._replace(last_seen=now, arrival_airport=None)


class Timetable:
    """Many flights, indexed so that every question is two binary searches. Answers are in the order of their time."""

    def __init__(self, flights: Iterable[Flight]) -> None:
        self._flights = sorted(flights, key=_FIRST_SEEN)
        self._departures: defaultdict[str, list[Flight]] = defaultdict(list)
        self._arrivals: defaultdict[str, list[Flight]] = defaultdict(list)
        self._by_aircraft: defaultdict[str, list[Flight]] = defaultdict(list)
        for flight in self._flights:
            self._departures[flight.departure_airport].append(flight)
            self._by_aircraft[flight.icao24].append(flight)
            if flight.arrival_airport is not None:
                self._arrivals[flight.arrival_airport].append(flight)
        for arrivals in self._arrivals.values():
            arrivals.sort(key=_LAST_SEEN)

    def __len__(self) -> int:
        return len(self._flights)

    def departures(self, airport: str, begin: int, end: int) -> list[Flight]:
        """Flights from `airport` first seen in [begin, end]."""
        return _within(self._departures.get(airport, ()), _FIRST_SEEN, begin, end)

    def arrivals(self, airport: str, begin: int, end: int) -> list[Flight]:
        """Flights to `airport` last seen in [begin, end]."""
        return _within(self._arrivals.get(airport, ()), _LAST_SEEN, begin, end)

    def of_aircraft(self, icao24: str, begin: int, end: int) -> list[Flight]:
        """Flights of one aircraft that began and ended in [begin, end]."""
        return [f for f in _within(self._by_aircraft.get(icao24, ()), _FIRST_SEEN, begin, end) if f.last_seen <= end]

    def between(self, begin: int, end: int) -> list[Flight]:
        """Flights that began and ended in [begin, end]."""
        return [f for f in _within(self._flights, _FIRST_SEEN, begin, end) if f.last_seen <= end]


def _within(flights: Sequence[Flight], instant: Instant, begin: int, end: int) -> list[Flight]:
    return list(flights[bisect_left(flights, begin, key=instant) : bisect_right(flights, end, key=instant)])
