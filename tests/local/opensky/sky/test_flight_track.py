"""The tracks of flights: physics that every one of them keeps, and the runways that they leave and reach."""

from random import Random

import pytest
from hypothesis import assume, given, settings as hypothesis_settings, strategies as st

from local.opensky.flights import TimetableFlight
from local.opensky.sky.aircraft import TrueState
from local.opensky.sky.airfields import RunwayEnd
from local.opensky.sky.flight_track import FlightTrack
from local.opensky.sky.geometry import Point, StraightLeg, compute_distance, compute_turn
from local.opensky.sky.profile import ImpossibleFlightError
from local.opensky.sky.settings import SkySettings
from tests.local.opensky.sky.flights import flights, make_flight

settings = st.builds(SkySettings, seed=st.integers(0, 2**31), go_around_share=st.sampled_from([0.0, 1.0]))


def plan(flight: TimetableFlight, chosen: SkySettings) -> FlightTrack:
    """Return the track of a flight; the example is given up if no aircraft can fly it in its time."""
    try:
        return FlightTrack(flight, chosen)
    except ImpossibleFlightError:
        assume(False)
        raise


def choose_seconds(track: FlightTrack, chance: Random) -> list[float]:
    """Return instants of the flight: some of its whole length, and more of them around both ends."""
    flight = track.flight
    around = [near + chance.uniform(-300, 300) for near in (flight.first_seen, flight.last_seen) for _ in range(60)]
    on_final = [flight.last_seen - chance.uniform(0, 1_500) for _ in range(60)]
    spread = [chance.uniform(track.start, track.end) for _ in range(100)]
    exact = [flight.first_seen - 1, flight.first_seen, flight.last_seen - 1, flight.last_seen]
    return [second for second in (*around, *on_final, *spread, *exact) if track.start <= second <= track.end - 1]


def locate(track: FlightTrack, time: float) -> TrueState:
    """Return the true state; the flight must be there at that time."""
    state = track.locate(time)
    assert state is not None
    return state


@given(flights(), settings, st.randoms(use_true_random=False))
def test_no_second_of_a_flight_is_beyond_what_aircraft_can_do(
    flight: TimetableFlight, chosen: SkySettings, chance: Random
) -> None:
    """Within a second it moves as far as its speed says, at most 280 m, and climbs or descends by 20 m at most.

    In the air it is never slower than 60 m/s, and never below the airport. On the ground it is never faster than at
    lift-off, which leaves no room for a jump.
    """
    track = plan(flight, chosen)
    for time in choose_seconds(track, chance):
        state, later = locate(track, time), locate(track, time + 1)
        moved = compute_distance(Point(*state[:2]), Point(*later[:2]))
        assert moved <= 280.1
        assert moved == pytest.approx((state.speed + later.speed) / 2, abs=16.0)
        assert abs(later.altitude_m - state.altitude_m) <= 20.0
        assert abs(state.vertical_rate) <= 20.0
        assert state.height_m >= 0.0
        if state.on_ground:
            assert (state.height_m, state.vertical_rate) == (0.0, 0.0)
            assert state.speed <= 77.1
        else:
            assert state.speed >= 60.0


@given(flights(), settings)
def test_a_flight_is_in_the_air_exactly_from_its_departure_to_its_arrival(
    flight: TimetableFlight, chosen: SkySettings
) -> None:
    """Its lift-off and its touch-down are the times of the timetable; before and after it is on the ground, or absent.

    Absent: the flight has no airport there."""
    track = plan(flight, chosen)
    assert not locate(track, flight.first_seen + 1).on_ground
    assert not locate(track, flight.last_seen - 1).on_ground
    before, after = track.locate(flight.first_seen - 1), track.locate(flight.last_seen + 1)
    assert (before is not None) == (flight.departure_airport is not None)
    assert (after is not None) == (flight.arrival_airport is not None)
    assert all(state is None or state.on_ground for state in (before, after))
    assert track.locate(track.start - 1) is None
    assert track.locate(track.end + 1) is None


@given(flights(), settings)
def test_a_flight_leaves_and_reaches_its_runways(flight: TimetableFlight, chosen: SkySettings) -> None:
    """It lifts off and touches down on the runway and along it, between its thresholds; a minute away it is aligned."""
    track = plan(flight, chosen)
    if flight.departure_airport is not None:
        assert_on_runway(locate(track, flight.first_seen), track.take_off_end)
        climbing = locate(track, flight.first_seen + 40)
        assert abs(compute_turn(climbing.track, track.take_off_end.heading)) < 2.0
        assert 100.0 < climbing.height_m < 700.0
    if flight.arrival_airport is not None:
        assert_on_runway(locate(track, flight.last_seen), track.landing_end)
        final = locate(track, flight.last_seen - 60)
        assert abs(compute_turn(final.track, track.landing_end.heading)) < 2.0
        assert final.height_m == pytest.approx(220.0, abs=60.0)
        assert final.vertical_rate < -2.0


def assert_on_runway(state: TrueState, end: RunwayEnd) -> None:
    """Assert that the state is on the runway, at the height of the airport, and in its direction."""
    place = Point(*state[:2])
    along = compute_distance(end.threshold, place)
    assert 0.0 < along < end.length
    on_line = StraightLeg(end.threshold, end.far_end).locate(along)
    assert compute_distance(place, on_line.point) < 10.0
    assert abs(compute_turn(state.track, end.heading)) < 1.5
    assert state.height_m == pytest.approx(0.0, abs=0.5)


@hypothesis_settings(max_examples=30)
@given(st.integers(0, 10_000))
def test_a_go_around_comes_before_the_landing_and_is_no_landing(seed: int) -> None:
    """The aircraft comes down to 60 to 150 m, climbs to its circuit, and touches down once, when the timetable says."""
    flight = make_flight(duration=6_000)
    track = FlightTrack(flight, SkySettings(seed=seed, go_around_share=1.0))
    assert track.goes_around
    heights = [locate(track, flight.last_seen - before).height_m for before in range(1_200, -1, -1)]
    top = max(range(500, 1_100), key=heights.__getitem__)  # in the circuit, some minutes before touch-down
    low = min(heights[:top])
    assert 55.0 < low < 155.0
    assert heights[top] > low + 400.0
    assert heights[-1] == pytest.approx(0.0, abs=0.5)
    assert min(heights[:-30]) > 40.0


@pytest.mark.parametrize("duration", [60, 300])
def test_a_flight_without_enough_time_is_not_flown(duration: int) -> None:
    """From New York to Boston in minutes: no aircraft is that fast, and none is shown."""
    with pytest.raises(ImpossibleFlightError):
        FlightTrack(make_flight(duration=duration), SkySettings())


def test_a_flight_between_two_unknown_airports_is_not_flown() -> None:
    """Nobody knows where it would be."""
    with pytest.raises(ImpossibleFlightError):
        FlightTrack(make_flight(None, "ZZZZ"), SkySettings())


def test_an_airport_without_known_runways_gets_one() -> None:
    """Paris is in no timetable of the replay: its runway is invented, at the airport and at its elevation."""
    track = FlightTrack(make_flight("LFPG", "EGLL", duration=5_000), SkySettings())
    lift_off = locate(track, track.flight.first_seen)
    assert compute_distance(Point(*lift_off[:2]), Point(49.0128, 2.55)) < 3_000.0
    assert lift_off.altitude_m == pytest.approx(119.0, abs=2.0)


def test_flights_of_one_hour_use_one_direction_and_all_parallel_runways() -> None:
    """Wind rules the direction; Kennedy's parallel runways share the flights."""
    tracks = [
        FlightTrack(make_flight("KJFK", "KBOS", icao24=f"a{number:05x}"), SkySettings(seed=3))
        for number in range(1, 40)
    ]
    ends = {track.take_off_end for track in tracks}
    assert len(ends) == 2
    assert len({round(end.heading / 10) for end in ends}) == 1
    later = FlightTrack(make_flight("KJFK", "KBOS", first_seen=1_361_000_000), SkySettings(seed=3))
    days = {
        FlightTrack(make_flight(first_seen=1_360_720_000 + 21_600 * n), SkySettings(seed=3)).take_off_end.name
        for n in range(40)
    }
    assert later.take_off_end.name in days
    assert len(days) > 2
