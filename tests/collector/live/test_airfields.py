"""The table of runways, and which airfields are near a position."""

import math

import pytest
from hypothesis import given, strategies as st

from collector.live.airfields import NEAR_M, Airfield, AirfieldIndex, load_airfields, name_as_known, read_runways
from domain.airports import find_airport
from tests.collector.live.skies import make_airfield


def test_the_table_has_the_worlds_large_airports_with_plausible_runways() -> None:
    """Each runway is there in both directions, opposite to each other, and between 150 m and 7 km long."""
    airfields = {each.icao: each for each in read_runways()}
    assert {"KJFK", "EGLL", "LFPG", "RJTT", "FAOR", "SBGR", "YSSY"} <= airfields.keys()
    assert len([icao for icao in airfields if find_airport(icao) is not None]) > 7_000
    for airfield in airfields.values():
        assert -500.0 < airfield.elevation_m < 5_000.0
        for one, other in zip(airfield.ends[::2], airfield.ends[1::2], strict=True):
            assert 140.0 <= one.length_m <= 7_100.0
            assert abs(abs(one.heading_deg - other.heading_deg) - 180.0) < 0.01


def test_airports_without_runways_are_in_the_index_and_heliports_are_not() -> None:
    """By their position alone; a heliport is no place where an airplane lands."""
    index = load_airfields()
    bare = find_airport("00AK")
    assert bare is not None
    assert index.find_near(59.9492, -151.696) != ()
    found = index.find_on_ground(48.7313, 2.3606)
    assert found is not None
    assert found.icao == "LFPO"
    assert index.find_on_ground(48.85, 2.35) is None


@pytest.mark.parametrize(
    ("latitude", "longitude", "icao"),
    [(26.6832, -80.0956, "KDJT"), (41.2579, 69.2812, "UZTT"), (40.6398, -73.7789, "KJFK")],
)
def test_an_airport_has_the_code_that_an_interest_may_name(latitude: float, longitude: float, icao: str) -> None:
    """Also where OurAirports has a former code (KPBI, UTTT): by its position, and there is one airfield."""
    index = load_airfields()
    found = index.find_on_ground(latitude, longitude)
    assert found is not None
    assert (found.icao, found.ends != ()) == (icao, True)
    former = {"KDJT": "KPBI", "UZTT": "UTTT"}.get(icao)
    assert former not in {each.icao for each in index.find_near(latitude, longitude)}


def test_no_two_airfields_of_the_index_have_one_code() -> None:
    """Neither does a code that is in use change: only one that no airport has is replaced."""
    codes = {each.icao for each in read_runways() if find_airport(each.icao) is not None}
    near: dict[str, set[int]] = {}
    for latitude in range(-60, 75):
        for longitude in range(-180, 180):
            for each in load_airfields().find_near(float(latitude), float(longitude)):
                near.setdefault(each.icao, set()).add(id(each))
    assert all(len(found) == 1 for found in near.values())
    assert len(codes & near.keys()) > 100


def test_a_code_without_a_known_airport_at_its_place_is_kept() -> None:
    """And an airport that has runways under its own code lends it to none."""
    one, other = make_airfield("EDXX", 50.0, 8.0, 40.0), make_airfield("EDXY", 50.0, 8.01, 40.0)
    known = {"EDYY": Airfield("EDYY", 50.05, 8.0, 100.0, 800.0), "EDXY": other}
    assert [each.icao for each in name_as_known([one, other], known, {"EDXY", "EDYY"})] == ["EDXX", "EDXY"]
    here = {"EDYY": Airfield("EDYY", 50.001, 8.0, 100.0, 800.0)}
    assert [each.icao for each in name_as_known([one, other], here, {"EDXY", "EDYY"})] == ["EDYY", "EDXY"]


@given(
    latitude=st.floats(-89.0, 89.0), longitude=st.floats(-180.0, 180.0),
    bearing=st.floats(0.0, 6.28), distance=st.floats(0.0, 0.95),
)  # fmt: skip
def test_an_airfield_is_found_from_every_side(
    latitude: float, longitude: float, bearing: float, distance: float
) -> None:
    """Also across the antimeridian, and near the poles; what is found is at the distance that it is."""
    airfield = make_airfield("EDXX", latitude, longitude, 40.0)
    metres = distance * NEAR_M
    north = latitude + metres * math.cos(bearing) / 111_195.0
    east = longitude + metres * math.sin(bearing) / (111_195.0 * math.cos(math.radians(latitude)))
    east = (east + 180.0) % 360.0 - 180.0
    if abs(north) > 89.5:
        return
    assert airfield in AirfieldIndex([airfield]).find_near(north, east)
    x, y = airfield.locate(north, east)
    assert math.hypot(x, y) == pytest.approx(metres, abs=1.0)
