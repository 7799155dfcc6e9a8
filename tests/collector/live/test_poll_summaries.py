"""How well a poll hears airports: what is near, what is low, what is fresh; against a search of all airports."""

import math

from hypothesis import given, settings, strategies as st

from collector.live.airfields import Airfield
from collector.live.poll_summaries import AirportGrid, Hearing
from collector.live.wanted import ROOM_KM
from collector.sources.regions import measure_distance_km
from collector.sources.state_vector import Poll, Position, PositionSource, StateVector
from tests.collector.live.skies import BEGIN
from tests.collector.live.test_movements import LARGE

DATE_LINE = Airfield("NFFN", -17.75, 179.9, 18.0, 800.0)
POLAR = Airfield("CYLT", 82.5, -62.3, 30.0, 800.0, LARGE.ends)


def tell(
    latitude: float,
    longitude: float,
    altitude: float | None = 3_000.0,
    on_ground: bool | None = False,
    age: float = 0.0,
) -> StateVector:
    """Return a state vector at a position of so many seconds ago."""
    position = Position(BEGIN - age, latitude, longitude)
    return StateVector(
        "abcdef", "", BEGIN, position, on_ground, altitude, None, 70.0, None, None, None, PositionSource.ADS_B
    )


def measure(airfield: Airfield, *states: StateVector) -> Hearing | None:
    """Return what a poll hears of an airfield."""
    return AirportGrid([airfield]).measure_hearing(Poll(BEGIN, states)).get(airfield.icao)


def test_a_low_aircraft_near_an_airport_shows_that_it_is_heard() -> None:
    """Below 1,000 ft above it, or on the ground, and within 10 km; by the geometric altitude if there is no other."""
    here = LARGE.latitude, LARGE.longitude
    away = LARGE.latitude + 0.2, LARGE.longitude  # 22 km
    assert measure(LARGE, tell(*here, LARGE.elevation_m + 304.0)) == (1, 1)
    assert measure(LARGE, tell(*here, LARGE.elevation_m + 306.0)) == (1, 0)
    assert measure(LARGE, tell(*here, None, on_ground=True), tell(*here, None)) == (2, 1)
    assert measure(LARGE, tell(*here, None)._replace(geo_altitude_m=200.0)) == (1, 1)
    assert measure(LARGE, tell(*away, 200.0)) == (1, 0)
    assert measure(LARGE, tell(*here, 200.0, age=61.0)) is None
    assert measure(LARGE, tell(*here)._replace(position=None)) is None
    assert measure(LARGE, tell(-here[0], here[1])) is None


def test_where_runways_are_not_known_only_the_ground_counts() -> None:
    """The detector finds movements there only from the ground."""
    here = DATE_LINE.latitude, DATE_LINE.longitude
    assert measure(DATE_LINE, tell(*here, 100.0)) == (1, 0)
    assert measure(DATE_LINE, tell(*here, None, on_ground=True)) == (1, 1)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.floats(-1.2, 1.2), st.floats(-1.2, 1.2)), min_size=1, max_size=20), st.integers(0, 2))
def test_all_in_the_room_of_an_airport_are_heard(offsets: list[tuple[float, float]], which: int) -> None:
    """Also across the date line and near the pole; and nobody who is farther away than a square of half a degree."""
    airfield = (LARGE, DATE_LINE, POLAR)[which]
    stretch = 1.0 / max(math.cos(math.radians(airfield.latitude)), 0.1)
    states = [
        tell(airfield.latitude + north, (airfield.longitude + east * stretch + 540.0) % 360.0 - 180.0)
        for north, east in offsets
    ]
    heard = measure(airfield, *states) or Hearing(0, 0)
    distances = [
        measure_distance_km(airfield.latitude, airfield.longitude, each.position.latitude, each.position.longitude)
        for each in states
        if each.position is not None
    ]
    inside = sum(distance <= ROOM_KM for distance in distances)
    nearby = sum(distance <= 2.5 * ROOM_KM + 60.0 for distance in distances)
    assert inside <= heard.fresh_positions <= nearby
    assert heard.low_positions == 0
