"""What is reported of aircraft: never more than can be heard, with the oddities of real positions."""

from itertools import pairwise
from typing import Final

import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as st

from local.opensky.flights import Timetable
from local.opensky.sky.airfields import FOOT_M
from local.opensky.sky.flight_track import FlightTrack
from local.opensky.sky.geometry import Point, compute_distance
from local.opensky.sky.profile import ImpossibleFlightError
from local.opensky.sky.receiver import Receiver
from local.opensky.sky.reception import NETWORK, OLDEST_REPEATED_S, OLDEST_S, Report, make_report
from local.opensky.sky.settings import SkySettings
from local.opensky.sky.sky import Sky
from tests.local.opensky.sky.flights import T0, flights, make_flight

FLOORS_FT: Final = (0, 500, 1_000, 1_500)
CALM: Final = SkySettings(spike_share=0.0, other_traffic=False)


def list_own_reports(track: FlightTrack, settings: SkySettings, step: int = 10) -> list[tuple[int, Report]]:
    """Return what the network reports of a flight, every `step` seconds, with the times."""
    times = range(int(track.start) - 30, int(track.end) + 60, step)
    found = ((time, make_report(track, NETWORK, time, settings)) for time in times)
    return [(time, report) for time, report in found if report is not None]


@hypothesis_settings(max_examples=40)
@given(flights(), st.integers(0, 1_000), st.integers(0, 3_600))
def test_a_report_is_made_of_what_was_received_before_it(flight: object, seed: int, offset: int) -> None:
    """No time is in the future, no position newer than the last contact, nothing older than is repeated.

    A position is there as a whole or not at all. What is not heard for 15 s is not reported.
    """
    settings = SkySettings(seed=seed)
    try:
        track = FlightTrack(flight, settings)  # type: ignore[arg-type]
    except ImpossibleFlightError:
        return
    for near in (track.flight.first_seen, track.flight.last_seen):
        for time in range(near - 400 + offset % 10, near + 400, 10):
            report = make_report(track, NETWORK, time, settings)
            if report is None:
                continue
            assert time - OLDEST_S <= report.last_contact <= time
            position = (report.time_position, report.latitude, report.longitude)
            assert None not in position or position == (None, None, None)
            if report.time_position is not None:
                assert time - OLDEST_REPEATED_S <= report.time_position <= report.last_contact
            if report.baro_altitude is not None:
                steps = report.baro_altitude / (25 * FOOT_M)
                assert steps == pytest.approx(round(steps), abs=0.01)


@pytest.mark.parametrize("floor_ft", FLOORS_FT)
@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_heard_below_the_floor(floor_ft: int, seed: int) -> None:
    """Each position is of a place above the airport's floor; only a floor of 0 gives positions on the ground."""
    floors = dict.fromkeys(("KJFK", "KBOS"), floor_ft * FOOT_M)
    settings = SkySettings(seed=seed, floors_m=floors)
    track = FlightTrack(make_flight(), settings)
    heights = []
    for time, report in list_own_reports(track, settings):
        assert time - report.last_contact <= OLDEST_S
        if report.time_position is not None:
            state = track.locate(report.time_position)
            assert state is not None
            assert state.height_m >= floor_ft * FOOT_M
            assert floor_ft == 0 or not state.on_ground
            heights.append(state.height_m)
    assert min(heights) < floor_ft * FOOT_M + 150.0


def test_a_perfect_sky_reports_the_truth() -> None:
    """Without its imperfections each report says where the aircraft is now, to the step of its altitude."""
    settings = SkySettings(floors_m={"KJFK": 0.0, "KBOS": 0.0}).make_perfect()
    track = FlightTrack(make_flight(), settings)
    reports = list_own_reports(track, settings)
    assert {time for time, _ in reports} >= set(range(int(track.start) + 10, int(track.end) - 10, 10))
    for time, report in reports:
        if not track.start <= time <= track.end:
            continue
        state = track.locate(time)
        assert state is not None
        assert (report.time_position, report.last_contact) == (time, time)
        assert (report.latitude, report.longitude) == pytest.approx((state.latitude, state.longitude), abs=1e-9)
        assert report.on_ground == state.on_ground
        assert report.baro_altitude == pytest.approx(state.altitude_m, abs=12.5 * FOOT_M + 0.01)
        assert report.velocity == pytest.approx(state.speed, abs=0.01)


@given(st.integers(0, 100_000))
def test_pressure_error_is_at_most_500_ft_and_never_jumps(seed: int) -> None:
    """Barometric altitude in the air is off by the day's pressure, by nearly the same error from poll to poll."""
    settings = SkySettings(seed=seed, spike_share=0.0)
    track = FlightTrack(make_flight(), settings)
    errors = []
    for time in range(track.flight.first_seen + 60, track.flight.first_seen + 1_200, 60):
        report = make_report(track, NETWORK, time, settings)
        if report is not None and report.baro_altitude is not None and not report.on_ground:
            state = track.locate(report.last_contact)
            assert state is not None
            errors.append((report.last_contact, report.baro_altitude - state.altitude_m))
    assert all(abs(error) <= 500 * FOOT_M + 12.6 * FOOT_M for _, error in errors)
    for (before, first), (after, second) in pairwise(errors):
        assert abs(second - first) < 26 * FOOT_M + 0.25 * (after - before)


def test_oddities_are_as_frequent_as_in_real_positions() -> None:
    """Of forty flights in the air and on the ground (the seed is fixed): some of everything, and not too much of it."""
    settings = SkySettings(floors_m={"KJFK": 0.0, "KBOS": 0.0}, spike_share=0.004)
    air, ground, old, repeated, flags, spikes, velocities = 0, 0, 0, 0, 0, 0, []
    for number in range(40):
        track = FlightTrack(make_flight(icao24=f"a{number:05x}", first_seen=T0 + 900 * number), settings)
        for time, report in list_own_reports(track, settings):
            state = track.locate(report.last_contact)
            assert state is not None
            flags += report.on_ground != state.on_ground
            age = None if report.time_position is None else time - report.time_position
            old += age is None or age > OLDEST_S
            repeated += age is not None and age > OLDEST_S
            if state.on_ground:
                ground += 1
                velocities.append(report.velocity)
            else:
                air += 1
                error = 0.0 if report.baro_altitude is None else report.baro_altitude - state.altitude_m
                spikes += abs(error) > 1_000.0
    assert 0.05 < old / (air + ground) < 0.15
    assert 0.4 < repeated / old < 0.8
    assert 0.0 < spikes / air < 0.01
    assert 0.0 < flags / (air + ground) < 0.02
    assert 0.6 < velocities.count(None) / ground < 0.9
    assert {velocity > 40.0 for velocity in velocities if velocity is not None} == {True}  # stale: nobody taxis so fast


def test_altitudes_are_continuous_but_for_spikes() -> None:
    """Between polls of ten seconds, altitude in the air changes by what the vertical rate allows, and a step."""
    settings = CALM
    for number in range(5):
        track = FlightTrack(make_flight(icao24=f"b{number:05x}"), settings)
        last: tuple[int, float] | None = None
        for _, report in list_own_reports(track, settings):
            state = track.locate(report.last_contact)
            assert state is not None
            if state.on_ground or report.baro_altitude is None:
                continue
            if last is not None:
                elapsed = report.last_contact - last[0]
                assert abs(report.baro_altitude - last[1]) <= 20.0 * elapsed + 30 * FOOT_M
            last = report.last_contact, report.baro_altitude


@given(st.floats(-0.9, 0.9), st.floats(-0.9, 0.9), st.floats(20.0, 200.0))
def test_a_receiver_hears_what_is_above_its_horizon(north: float, east: float, range_nm: float) -> None:
    """It hears nothing beyond its range, nothing on the ground far away, and what passes right above it."""
    receiver = Receiver(Point(40.64 + north, -73.78 + east), range_nm)
    track = FlightTrack(make_flight(), CALM)
    heard = False
    for time in range(int(track.start), int(track.end), 30):
        state = track.locate(time)
        assert state is not None
        distance = compute_distance(receiver.position, Point(*state[:2]))
        if receiver.hears(state):
            heard = True
            assert distance <= range_nm * 1_852.0
            assert distance <= 4_120.0 * (12.0**0.5 + state.height_m**0.5) * 1.001
            assert not state.on_ground or distance <= 8_000.0
        else:
            assert distance > 0.99 * min(8_000.0 if state.on_ground else 14_000.0, range_nm * 1_852.0)
    assert heard or range_nm < 150.0


def test_receiver_and_network_miss_other_messages() -> None:
    """Two listeners of one aircraft do not lose the same seconds, and one listener always the same."""
    sky = Sky(Timetable([make_flight()]), CALM)
    receiver = Receiver(Point(40.64, -73.78))
    times = range(T0 + 7_400, T0 + 7_900, 10)
    positions = {
        each: [[report.time_position for report in sky.list_reports(time, each)] for time in times]
        for each in (NETWORK, receiver, Receiver(Point(40.64, -73.78)))
    }
    network, first, second = positions.values() if len(positions) == 3 else (*positions.values(), None)
    assert network != first
    assert second in (None, first)
