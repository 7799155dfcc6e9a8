"""The sky: which aircraft are in it at an instant, and what is reported of them."""

from collections.abc import Callable, Iterator
from datetime import date
from functools import cached_property, lru_cache
from typing import Final

from local.opensky.flights import Timetable, TimetableFlight
from local.opensky.nightly_record import compute_day
from local.opensky.sky.aircraft import Aircraft, TrueState
from local.opensky.sky.airfields import find_airfield
from local.opensky.sky.flight_track import FlightTrack
from local.opensky.sky.ground import ON_GROUND_S
from local.opensky.sky.other_traffic import OtherTraffic
from local.opensky.sky.profile import ImpossibleFlightError
from local.opensky.sky.reception import NETWORK, Listener, Report, make_report
from local.opensky.sky.settings import DEFAULT_SETTINGS, SkySettings

_TRACKS_KEPT: Final = 4_096
"""Tracks that are kept in memory: some ten times as many as the busiest hour of the timetable has."""
_ON_GROUND_S: Final = int(ON_GROUND_S)


class Sky:
    """A synthetic sky over a timetable: a pure function of timetable, settings and time.

    Any time can be asked for, in any order; the answer to a time is always the same.
    """

    def __init__(
        self,
        timetable: Timetable,
        settings: SkySettings = DEFAULT_SETTINGS,
        *,
        first_day: date | None = None,
        last_day: date | None = None,
    ) -> None:
        """`first_day`, `last_day`: UTC days before and after which no flight takes off or lands; None: no bound."""
        self.settings = settings
        self._timetable = timetable
        self._first_day, self._last_day = first_day, last_day
        self._plan: Callable[[TimetableFlight], FlightTrack | None] = lru_cache(_TRACKS_KEPT)(self._plan_track)

    def list_reports(self, time: int, listener: Listener = NETWORK) -> list[Report]:
        """Return what a listener reports at an instant, one report for each aircraft, ordered by address."""
        found: dict[str, Report] = {}
        for aircraft in self.list_aircraft(time, listener.oldest_s):
            report = make_report(aircraft, listener, time, self.settings)
            if report is not None:
                best = found.get(report.icao24)
                if best is None or report.last_contact >= best.last_contact:
                    found[report.icao24] = report
        return [found[icao24] for icao24 in sorted(found)]

    def list_true_states(self, time: float) -> dict[str, TrueState]:
        """Return the true state of each aircraft whose transponder is on, by address, heard or not."""
        located = ((aircraft.identity.icao24, aircraft.locate(time)) for aircraft in self.list_aircraft(int(time)))
        return {icao24: state for icao24, state in located if state is not None}

    def list_aircraft(self, time: int, ago_s: int = 0) -> Iterator[Aircraft]:
        """Yield all aircraft that may be there at an instant, or were at most `ago_s` seconds before.

        An aircraft whose flights follow each other closely may come twice: its earlier flight first.
        """
        yield from self.list_flights(time - _ON_GROUND_S - ago_s, time + _ON_GROUND_S)
        if self.settings.other_traffic:
            yield from self._other.list_aircraft(time)

    @cached_property
    def _other(self) -> OtherTraffic:
        """The aircraft that are in no timetable."""
        known = (find_airfield(icao) for icao in self._timetable.list_airports())
        return OtherTraffic([airfield for airfield in known if airfield is not None], self.settings)

    def list_flights(self, begin: int, end: int) -> Iterator[FlightTrack]:
        """Yield the tracks of the timetable's flights that are in the air at any time of [begin, end].

        They are ordered by their begin; the order of two that begin together is always the same, too. Flights
        that no aircraft can fly in their time, and those out of the sky's days, are left out.
        """
        for flight in sorted(self._timetable.find_overlapping(begin, end), key=_get_sort_key):
            track = self._plan(flight) if self._is_within_days(flight) else None
            if track is not None:
                yield track

    def _plan_track(self, flight: TimetableFlight) -> FlightTrack | None:
        """Return the track of a flight; None if no aircraft can fly it in its time."""
        try:
            return FlightTrack(flight, self.settings)
        except ImpossibleFlightError:
            return None

    def _is_within_days(self, flight: TimetableFlight) -> bool:
        """Return True if the flight takes off or lands on one of the sky's days, else False."""
        after_first = self._first_day is None or compute_day(flight.last_seen) >= self._first_day
        return after_first and (self._last_day is None or compute_day(flight.first_seen) <= self._last_day)


def _get_sort_key(flight: TimetableFlight) -> tuple[int, int, str, str]:
    """Return the key by which flights are sorted, so that the order of the timetable does not matter."""
    return flight.first_seen, flight.last_seen, flight.icao24, f"{flight.departure_airport} {flight.arrival_airport}"
