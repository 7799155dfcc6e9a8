"""The nightly record: which flights OpenSky knows at an instant, and what it knows of them. Pure.

OpenSky infers flights in a nightly batch from the tracks of the finished UTC day (its FAQ). When the batch runs,
whether it comes in parts, and whether departures of today are ever given, nobody has said; so each can be set here.

A flight belongs to the day of its event: as a departure to the UTC day on which it was first seen; as an arrival, and
in the searches for all flights and for one aircraft, to the day on which it was last seen. The record of a day is made
from the tracks of that day. So a flight over midnight was last seen, for the record of its first day, when that day
ended, and has no arrival airport until the record of its last day has it, too.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from hashlib import blake2b
from typing import Final

from local.opensky.flights import TimetableFlight

DAY: Final = 86_400
DEFAULT_RECORD_AFTER: Final = timedelta(hours=2, minutes=40)
DEFAULT_SECOND_PART_AFTER: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class RecordSchedule:
    """The rule that decides when the record of each UTC day appears, and what is in it. Instants are Unix seconds."""

    record_after: timedelta = DEFAULT_RECORD_AFTER
    """How long after the midnight that ends a day the day's record appears, or its first part."""
    second_part_after: timedelta | None = None
    """How long after the first part the second one appears; None: the record comes as a whole."""
    late_days: frozenset[date] = frozenset()
    """The days whose record appears 24 hours later than that of other days."""
    missing_days: frozenset[date] = frozenset()
    """The days whose record never appears."""
    unheard_airports: frozenset[str] = frozenset()
    """The airports without a receiver nearby: nothing departs or arrives there, as far as the record knows."""
    departures_live: bool = False
    """True: a departure is given at once, until the record of its day begins to appear and replaces it."""
    first_day: date | None = None
    """The day before which there are no flights at all; None: there is none."""
    last_day: date | None = None
    """The day after which there are no flights at all; None: there is none."""

    def find_first_part_time(self, day: date) -> int | None:
        """Return the instant at which the record of a day, or its first part, appears; None if it never does."""
        if day in self.missing_days or not self._has_flights(day):
            return None
        lateness = timedelta(days=1) if day in self.late_days else timedelta(0)
        midnight = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
        return int((midnight + self.record_after + lateness).timestamp())

    def find_completion_time(self, day: date) -> int | None:
        """Return the instant at which the record of a day is whole; None if it never appears."""
        first = self.find_first_part_time(day)
        return None if first is None else first + self._get_second_part_delay_s()

    def is_recorded(self, flight: TimetableFlight, event_time: int, now: int) -> bool:
        """Return True if the record has the flight's event of `event_time` at `now`, False if it does not yet or never.

        `event_time`: when the flight was first or last seen.
        """
        appears = self.find_first_part_time(compute_day(event_time))
        if appears is None:
            return False
        if self.second_part_after is not None and is_in_second_part(flight):
            appears += self._get_second_part_delay_s()
        return now >= appears

    def describe_departure(self, flight: TimetableFlight, now: int) -> TimetableFlight | None:
        """Return the flight as its departure is known at `now`; None if it is not known, or not any more.

        A live departure that is still in the air was last seen now. It is unknown once the record of its day begins to
        appear, until the record has it.
        """
        if flight.departure_airport in self.unheard_airports:
            return None
        if self.is_recorded(flight, flight.first_seen, now):
            if self.is_recorded(flight, flight.last_seen, now):
                return self._remove_unheard_airports(flight)
            return self._remove_unheard_airports(flight.as_seen_at(_find_last_second(flight.first_seen)))
        day = compute_day(flight.first_seen)
        if not self.departures_live or now < flight.first_seen or not self._has_flights(day):
            return None
        replaced = self.find_first_part_time(day)
        if replaced is not None and now >= replaced:
            return None
        return self._remove_unheard_airports(flight.as_seen_at(now))

    def describe_arrival(self, flight: TimetableFlight, now: int) -> TimetableFlight | None:
        """Return the flight as its arrival is known at `now`; None if it is not known, or if it never arrived."""
        if flight.arrival_airport is None or flight.arrival_airport in self.unheard_airports:
            return None
        return self.describe_flight(flight, now)

    def describe_flight(self, flight: TimetableFlight, now: int) -> TimetableFlight | None:
        """Return the flight as it is known at `now` by its last day; None if it is not known, or heard nowhere."""
        heard = self._remove_unheard_airports(flight)
        if heard.departure_airport is None and heard.arrival_airport is None:
            return None
        return heard if self.is_recorded(flight, flight.last_seen, now) else None

    def _has_flights(self, day: date) -> bool:
        """Return True if the day is neither before the first nor after the last day with flights, else False."""
        return (self.first_day is None or day >= self.first_day) and (self.last_day is None or day <= self.last_day)

    def _remove_unheard_airports(self, flight: TimetableFlight) -> TimetableFlight:
        """Return the flight without its departure or arrival airport, or both, where nobody hears it."""
        if not self.unheard_airports:
            return flight
        departure, arrival = (
            None if airport in self.unheard_airports else airport
            for airport in (flight.departure_airport, flight.arrival_airport)
        )
        return flight._replace(departure_airport=departure, arrival_airport=arrival)

    def _get_second_part_delay_s(self) -> int:
        return 0 if self.second_part_after is None else int(self.second_part_after.total_seconds())


NIGHTLY: Final = RecordSchedule()
"""The schedule without any option: each day's record appears as a whole, at 02:40 of the next day."""


def compute_day(instant: int) -> date:
    """Return the UTC day of an instant (Unix seconds)."""
    return datetime.fromtimestamp(instant, UTC).date()


def is_in_second_part(flight: TimetableFlight) -> bool:
    """Return True if the flight is in the second part of a record in two parts, False if it is in the first.

    Drawn from the flight alone: each part has about half of the flights of every hour and airport, always the same.
    """
    return blake2b(f"{flight.icao24} {flight.first_seen}".encode(), digest_size=1).digest()[0] % 2 == 1


def _find_last_second(instant: int) -> int:
    """Return the last second of the UTC day of `instant`."""
    return instant - instant % DAY + DAY - 1
