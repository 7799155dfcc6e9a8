"""The searches in the timetable."""

from hypothesis import given, strategies as st

from local.opensky.flights import Timetable, TimetableFlight

AIRPORTS = ["KJFK", "KLGA", "KBOS"]
instants = st.integers(0, 50)


@st.composite
def flights(draw: st.DrawFn) -> TimetableFlight:
    """A strategy for flights of a few airports and aircraft at small instants."""
    first_seen, last_seen = sorted((draw(instants), draw(instants)))
    return TimetableFlight(
        first_seen,
        last_seen,
        icao24=draw(st.sampled_from(["a00001", "a00002"])),
        callsign="JBU1",
        departure_airport=draw(st.sampled_from(AIRPORTS)),
        arrival_airport=draw(st.none() | st.sampled_from(AIRPORTS)),
    )


@given(st.lists(flights(), max_size=40), instants, instants)
def test_every_search_finds_what_a_filter_over_all_flights_finds(
    rows: list[TimetableFlight], begin: int, end: int
) -> None:
    """Both ends of the interval are included, and an empty interval finds nothing."""
    timetable = Timetable(rows)

    def same(found: list[TimetableFlight], expected: list[TimetableFlight]) -> bool:
        return sorted(map(str, found)) == sorted(map(str, expected))

    within = [f for f in rows if begin <= f.first_seen and f.last_seen <= end]
    assert same(timetable.find_between(begin, end), within)
    assert same(timetable.find_by_aircraft("a00001", begin, end), [f for f in within if f.icao24 == "a00001"])
    for airport in AIRPORTS:
        departures = [f for f in rows if f.departure_airport == airport and begin <= f.first_seen <= end]
        assert same(timetable.find_departures(airport, begin, end), departures)
        arrivals = [f for f in rows if f.arrival_airport == airport and begin <= f.last_seen <= end]
        assert same(timetable.find_arrivals(airport, begin, end), arrivals)


@given(st.lists(flights(), max_size=40))
def test_results_are_ordered_by_time(rows: list[TimetableFlight]) -> None:
    """Departures are ordered by first_seen, arrivals by last_seen."""
    timetable = Timetable(rows)
    departures = [f.first_seen for f in timetable.find_departures("KJFK", 0, 50)]
    arrivals = [f.last_seen for f in timetable.find_arrivals("KJFK", 0, 50)]
    assert departures == sorted(departures)
    assert arrivals == sorted(arrivals)


@given(flights(), st.integers(0, 60))
def test_a_flight_in_the_air_was_last_seen_now_and_has_not_arrived(flight: TimetableFlight, later: int) -> None:
    """After the landing the flight is returned unchanged."""
    now = flight.first_seen + later
    seen = flight.as_seen_at(now)
    assert seen.first_seen == flight.first_seen
    if now < flight.last_seen:
        assert (seen.last_seen, seen.arrival_airport) == (now, None)
    else:
        assert seen == flight
