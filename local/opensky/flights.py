"""The flights of the replay, and the searches in them that OpenSky's API offers. Pure: no clock, no files, no HTTP.

Instants are Unix seconds, as in OpenSky's API; intervals are inclusive at both ends, as OpenSky's are.
"""

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import NamedTuple

EventTime = Callable[["TimetableFlight"], int]
_FIRST_SEEN: EventTime = attrgetter("first_seen")
_LAST_SEEN: EventTime = attrgetter("last_seen")


class TimetableFlight(NamedTuple):
    """A flight of the timetable, as it is known after its end. (A named tuple: 328,000 of them are made at start.)"""

    first_seen: int
    last_seen: int
    icao24: str
    callsign: str
    departure_airport: str | None
    """None: the record does not have it, because the airport is unheard."""
    arrival_airport: str | None
    """None: the flight never reached its destination or, in the result of `as_seen_at`, is still in the air."""

    def as_seen_at(self, now: int) -> "TimetableFlight":
        """Return the flight as it is known at `now`: in the air, it was last seen now and has no arrival airport.

        `now` must not be before `first_seen`.
        """
        return self if now >= self.last_seen else self._replace(last_seen=now, arrival_airport=None)


class Timetable:
    """The flights of the replay, indexed so that every search is two binary searches. Results are ordered by time."""

    def __init__(self, flights: Iterable[TimetableFlight]) -> None:
        self._flights = sorted(flights, key=_FIRST_SEEN)
        self._departures: defaultdict[str, list[TimetableFlight]] = defaultdict(list)
        self._arrivals: defaultdict[str, list[TimetableFlight]] = defaultdict(list)
        self._by_aircraft: defaultdict[str, list[TimetableFlight]] = defaultdict(list)
        for flight in self._flights:
            self._by_aircraft[flight.icao24].append(flight)
            if flight.departure_airport is not None:
                self._departures[flight.departure_airport].append(flight)
            if flight.arrival_airport is not None:
                self._arrivals[flight.arrival_airport].append(flight)
        for arrivals in self._arrivals.values():
            arrivals.sort(key=_LAST_SEEN)
        self._longest_s = max((f.last_seen - f.first_seen for f in self._flights), default=0)

    def __len__(self) -> int:
        return len(self._flights)

    def find_departures(self, airport: str, begin: int, end: int) -> list[TimetableFlight]:
        """Return the flights from `airport` that were first seen in [begin, end], in the order of their departure."""
        return _slice_by_time(self._departures.get(airport, ()), _FIRST_SEEN, begin, end)

    def find_arrivals(self, airport: str, begin: int, end: int) -> list[TimetableFlight]:
        """Return the flights to `airport` that were last seen in [begin, end], in the order of their arrival."""
        return _slice_by_time(self._arrivals.get(airport, ()), _LAST_SEEN, begin, end)

    def find_by_aircraft(self, icao24: str, begin: int, end: int) -> list[TimetableFlight]:
        """Return the flights of one aircraft that began and ended in [begin, end], in the order of their begin."""
        return [
            f for f in _slice_by_time(self._by_aircraft.get(icao24, ()), _FIRST_SEEN, begin, end) if f.last_seen <= end
        ]

    def find_overlapping(self, begin: int, end: int) -> list[TimetableFlight]:
        """Return the flights that were in the air at any time of [begin, end], in the order of their begin."""
        return [
            f for f in _slice_by_time(self._flights, _FIRST_SEEN, begin - self._longest_s, end) if f.last_seen >= begin
        ]

    def list_airports(self) -> list[str]:
        """Return the airports of all flights, those with most departures and arrivals first."""
        traffic = Counter({airport: len(flights) for airport, flights in self._departures.items()})
        traffic.update({airport: len(flights) for airport, flights in self._arrivals.items()})
        return sorted(traffic, key=lambda airport: (-traffic[airport], airport))

    def find_between(self, begin: int, end: int) -> list[TimetableFlight]:
        """Return the flights that began and ended in [begin, end], in the order of their begin."""
        return [f for f in _slice_by_time(self._flights, _FIRST_SEEN, begin, end) if f.last_seen <= end]


def _slice_by_time(
    flights: Sequence[TimetableFlight], event_time: EventTime, begin: int, end: int
) -> list[TimetableFlight]:
    """Return the flights with an event time in [begin, end], of flights that are sorted by it."""
    return list(flights[bisect_left(flights, begin, key=event_time) : bisect_right(flights, end, key=event_time)])
