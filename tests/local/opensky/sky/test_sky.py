"""The sky as a whole: a pure function of its timetable, its settings and the time."""

from datetime import date
from itertools import pairwise
from random import Random
from typing import Final

import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as st

from local.opensky.flights import Timetable, TimetableFlight
from local.opensky.sky.airfields import FOOT_M, find_airfield
from local.opensky.sky.geometry import Point, compute_distance
from local.opensky.sky.other_traffic import Helicopter, OtherTraffic
from local.opensky.sky.settings import SkySettings
from local.opensky.sky.sky import Sky
from local.opensky.sky.truth import TrueMovement, list_movements
from tests.local.opensky.sky.flights import T0, flights, make_flight

BEGIN: Final = T0 + 6_000
HOUR_OF_FLIGHTS: Final = [
    make_flight(airports[0], airports[1], first_seen=BEGIN + 300 * number, duration=5_400, icao24=f"a{number:05x}")
    for number, airports in enumerate([("KJFK", "KBOS"), ("KBOS", "KEWR"), ("KLGA", "KDCA"), ("KORD", "KJFK")] * 3)
]


@hypothesis_settings(max_examples=15)
@given(st.lists(flights(), max_size=5), st.integers(0, 2**31), st.randoms(use_true_random=False))
def test_any_time_can_be_asked_in_any_order(drawn: list[TimetableFlight], seed: int, chance: Random) -> None:
    """Another sky of the same flights and seed, asked in another order and for other times between, says the same."""
    settings = SkySettings(seed=seed)
    times = [flight.first_seen + chance.randint(-300, 7_200) for flight in drawn for _ in range(4)] or [T0]
    forwards, shuffled = sorted(times), chance.sample(times, len(times))
    one, other = Sky(Timetable(drawn), settings), Sky(Timetable(reversed(drawn)), settings)
    first = {time: one.list_reports(time) for time in forwards}
    for time in shuffled:
        other.list_reports(time + chance.randint(-900, 900))
        assert other.list_reports(time) == first[time]


def test_another_seed_is_another_sky() -> None:
    """The flights are the same, the reports of them are not."""
    one, other = (Sky(Timetable(HOUR_OF_FLIGHTS), SkySettings(seed=seed, other_traffic=False)) for seed in (1, 2))
    time = BEGIN + 3_700
    assert {r.icao24 for r in one.list_reports(time)} & {r.icao24 for r in other.list_reports(time)}
    assert one.list_reports(time) != other.list_reports(time)


def test_each_address_is_there_once_in_order() -> None:
    """Also an aircraft that lands and takes off within the minutes in which it is on the ground of both airports."""
    landing = make_flight("KBOS", "KJFK", icao24="a00001", duration=4_200)
    leaving = make_flight("KJFK", "KBOS", icao24="a00001", first_seen=landing.last_seen + 120)
    sky = Sky(Timetable([*HOUR_OF_FLIGHTS, landing, leaving]))
    for time in range(landing.last_seen - 60, landing.last_seen + 400, 20):
        addresses = [report.icao24 for report in sky.list_reports(time)]
        assert addresses == sorted(set(addresses))


def test_a_sky_has_aircraft_that_only_pass_vehicles_and_a_helicopter() -> None:
    """They are heard beside the timetable's flights, and none of them is in the truth."""
    sky = Sky(Timetable(HOUR_OF_FLIGHTS))
    of_timetable = {flight.icao24 for flight in HOUR_OF_FLIGHTS}
    others = [
        report
        for time in range(BEGIN, BEGIN + 7_200, 300)
        for report in sky.list_reports(time)
        if report.icao24 not in of_timetable
    ]
    assert {8, 16, 17, 2, 5} <= {report.category for report in others}
    assert all(report.icao24.startswith("d") for report in others)
    assert all(report.on_ground for report in others if report.category in (16, 17))
    movements = list_movements(sky, BEGIN, BEGIN + 12_000)
    assert {movement.icao24 for movement in movements} == of_timetable


def test_other_traffic_moves_as_it_can() -> None:
    """Nothing jumps; what only passes stays in level flight, 1,200 ft above the airport at least."""
    airfields = [each for each in map(find_airfield, ("KJFK", "KBOS", "KORD")) if each is not None]
    traffic = OtherTraffic(airfields, SkySettings())
    for aircraft in traffic.list_aircraft(BEGIN):
        states = [aircraft.locate(BEGIN + second) for second in range(0, 3_600, 1)]
        for before, after in pairwise(states):
            if before is None or after is None:
                continue
            assert compute_distance(Point(*before[:2]), Point(*after[:2])) < 262.0
            assert abs(after.altitude_m - before.altitude_m) < 6.0
            if aircraft.identity.category in (2, 5):
                assert before.height_m >= 1_200 * FOOT_M
                assert not before.on_ground
            if aircraft.identity.category in (16, 17):
                assert before.speed < 20.0


def test_a_helicopter_lands_at_its_heliport_and_at_no_airport() -> None:
    """Its heliport is some kilometres from the airport, and it is on the ground nowhere else."""
    airfield = find_airfield("KJFK")
    assert airfield is not None
    helicopter = Helicopter(airfield, SkySettings())
    states = [helicopter.locate(BEGIN + second) for second in range(3_600)]
    on_ground = [state for state in states if state is not None and state.on_ground]
    assert on_ground
    assert any(state is not None and not state.on_ground for state in states)
    assert all(compute_distance(Point(*state[:2]), helicopter.heliport) < 10.0 for state in on_ground)
    assert compute_distance(helicopter.heliport, airfield.centre) > 4_000.0


def test_only_flights_of_the_skys_days_are_flown() -> None:
    """A flight over the first midnight is flown; those of earlier days are not."""
    over = make_flight(first_seen=T0 - 1_800, icao24="a00002")
    before = make_flight(first_seen=T0 - 9_000, icao24="a00003")
    sky = Sky(Timetable([over, before]), SkySettings(other_traffic=False), first_day=date(2013, 2, 13))
    assert [track.flight.icao24 for track in sky.list_flights(T0 - 86_400, T0 + 86_400)] == ["a00002"]
    gone = Sky(Timetable([over, before]), SkySettings(other_traffic=False), last_day=date(2013, 2, 11))
    assert not list(gone.list_flights(T0 - 86_400, T0 + 86_400))


# The truth


@hypothesis_settings(max_examples=30)
@given(st.lists(flights(), max_size=6, unique_by=lambda flight: flight.icao24), st.integers(0, 1_000))
def test_the_truth_is_the_timetable(drawn: list[TimetableFlight], seed: int) -> None:
    """Each flown flight has a take-off and a landing at its airports at the timetable's times, and nothing else."""
    sky = Sky(Timetable(drawn), SkySettings(seed=seed))
    flown = {track.flight for track in sky.list_flights(0, 2**31)}
    expected = {
        *((f.departure_airport, "departure", f.icao24, f.first_seen) for f in flown if f.departure_airport),
        *((f.arrival_airport, "arrival", f.icao24, f.last_seen) for f in flown if f.arrival_airport),
    }
    movements = list_movements(sky, 0, 2**31)
    assert {(m.airport, m.direction, m.icao24, m.time) for m in movements} == expected
    assert len(movements) == len(expected)
    assert [m.time for m in movements] == sorted(m.time for m in movements)


@pytest.mark.parametrize("floor_ft", [0, 500, 1_500])
def test_the_truth_says_what_can_be_heard(floor_ft: int) -> None:
    """The least height is that of the reports of each second, and not below the floor."""
    flight = make_flight()
    floors = {"KJFK": floor_ft * FOOT_M, "KBOS": floor_ft * FOOT_M}
    sky = Sky(Timetable([flight]), SkySettings(floors_m=floors, other_traffic=False))
    (track,) = sky.list_flights(0, 2**31)
    for movement in list_movements(sky, 0, 2**31):
        lowest, on_ground = _listen(sky, track.locate, movement)
        assert movement.lowest_heard_m == lowest
        assert movement.heard_on_ground == on_ground == (floor_ft == 0)
        assert lowest >= floor_ft * FOOT_M


def _listen(sky: Sky, locate: object, movement: TrueMovement) -> tuple[float, bool]:
    """Return the least height of a position that is reported within ten minutes, and whether one is on the ground."""
    heights, on_ground = [], False
    departs = movement.direction == "departure"
    begin, end = (movement.time - 290, movement.time + 600) if departs else (movement.time - 600, movement.time + 290)
    for time in range(begin, end):
        for report in sky.list_reports(time):
            if report.time_position == time:
                state = locate(time)  # type: ignore[operator]
                on_ground = on_ground or state.on_ground
                if not state.on_ground:
                    heights.append(state.height_m)
    return min(heights), on_ground


def test_at_an_unheard_airport_nothing_low_is_heard() -> None:
    """An airport without receivers has movements that nobody hears below 10,000 ft."""
    settings = SkySettings(unheard_airports=frozenset({"KBOS"}), other_traffic=False)
    sky = Sky(Timetable([make_flight()]), settings)
    departure, arrival = list_movements(sky, 0, 2**31)
    assert departure.lowest_heard_m is not None
    assert departure.lowest_heard_m < 100.0
    assert arrival.lowest_heard_m is None or arrival.lowest_heard_m >= 10_000 * FOOT_M
    assert not arrival.heard_on_ground
