"""The detector on synthetic skies: what is a movement, what is none, and how little reception it bears."""

import random
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given, strategies as st

from benchmarks.live_accuracy import Event, Score, compare
from collector.live.airfields import Airfield, AirfieldIndex
from collector.live.movements import Evidence, Movement, MovementDetector, detect_movements
from collector.live.runway_use import find_approach
from collector.live.tracks import Fix
from collector.sources.state_vector import Category, Poll, Position, PositionSource, StateVector
from tests.collector.live.skies import (
    BEGIN,
    FOOT_M,
    Flight,
    Reception,
    fly,
    full_stop,
    go_around,
    hear,
    helicopter,
    landing,
    make_airfield,
    overflight,
    shift,
    take_off,
    touch_and_go,
    vehicle,
)

LARGE = make_airfield("EDLA", 50.0, 8.0, 70.0, runways=2)
NEXT_DOOR = make_airfield("EDNX", 50.03, 8.125, 95.0)
"""9.5 km (5 nm) from the large one, with a runway that points nearly at it."""
FIELD = make_airfield("EDFD", 49.6, 8.6, 120.0, length_m=1_000.0)
AIRFIELDS = AirfieldIndex((LARGE, NEXT_DOOR, FIELD))
CLEAR = Reception(noise=False)


def detect(flights: Sequence[Flight], step: int = 10, reception: Reception = CLEAR, seed: int = 1) -> list[Movement]:
    """Return the movements that are found in what is heard of flights."""
    return list(detect_movements(hear(flights, step, reception, seed), AIRFIELDS))


def judge(movements: Iterable[Movement], expected: Iterable[Event], direction: str) -> Score:
    """Return the score of movements, whenever they were revealed."""
    return compare(((0.0, each) for each in movements), expected, direction)


def fill_sky(seed: int) -> list[Flight]:
    """Return three hours with 30 landings and 30 take-offs at two airports 5 nm apart, and what is no movement."""
    chance = random.Random(seed)
    flights = []
    for index in range(60):
        airfield = chance.choice((LARGE, NEXT_DOOR))
        end = chance.choice(airfield.ends)
        begin = BEGIN + 120.0 + chance.uniform(0, 9_000.0) // 1
        speed = chance.uniform(62.0, 75.0)
        if index % 2:
            flight = fly(f"a{index:05x}", begin, airfield, end, landing(speed), "arr")
        else:
            flight = fly(f"d{index:05x}", begin, airfield, end, take_off(speed, turn=chance.choice((-1, 1))), "dep")
        flights.append(flight)
    for index in range(6):
        end = chance.choice(LARGE.ends)
        begin = BEGIN + 120.0 + chance.uniform(0, 9_000.0) // 1
        flights += (
            fly(f"b{index:05x}", begin, LARGE, end, go_around(chance.uniform(20, 200))),
            fly(f"c{index:05x}", begin, LARGE, end, overflight(chance.uniform(500, 1_500))),
            fly(f"e{index:05x}", begin, NEXT_DOOR, NEXT_DOOR.ends[0], helicopter(), category=Category.ROTORCRAFT),
            fly(f"f{index:05x}", begin, NEXT_DOOR, NEXT_DOOR.ends[0], vehicle()),
        )
    return flights


@pytest.mark.parametrize("step", [10, 30, 60])
@pytest.mark.parametrize(
    ("floor_ft", "error_ft"), [(0, 0), (0, -500), (500, 500), (1_000, -500), (1_500, -500), (1_500, 500)]
)
def test_a_busy_sky_is_counted(step: int, floor_ft: int, error_ft: int) -> None:
    """Parallel runways, two airports 5 nm apart, wrong pressure, no reception near the ground: nearly all is found.

    Nothing is found that was not there, and nothing at the wrong airport.
    """
    flights = fill_sky(seed=step)
    reception = Reception(floor_ft * FOOT_M, hears_surface=floor_ft == 0, pressure_error_m=error_ft * FOOT_M)
    movements = detect(flights, step, reception, seed=floor_ft + error_ft)
    expected = [each for flight in flights for each in flight.expected]
    for direction in ("dep", "arr"):
        score = judge(movements, expected, direction)
        assert score.false == []
        assert score.recall >= 0.9, score.missed


@pytest.mark.parametrize("step", [10, 30, 60])
@pytest.mark.parametrize("floor_ft", [0, 300, 500])
@pytest.mark.parametrize(
    "points", [go_around(), go_around(15.0), touch_and_go(), overflight(300.0), overflight(100.0, 70.0), vehicle()]
)  # fmt: skip
def test_what_does_not_roll_out_is_no_movement(
    points: list[tuple[float, float, float, float]], step: int, floor_ft: int
) -> None:
    """Go-arounds, touch-and-goes, low passes and cars are none, however often they are polled."""
    flight = fly("abcdef", BEGIN + 60.0, FIELD, FIELD.ends[0], points)
    assert detect([flight], step, Reception(floor_ft * FOOT_M, noise=False)) == []


@pytest.mark.parametrize("category", [None, Category.ROTORCRAFT])
@pytest.mark.parametrize("step", [10, 30, 60])
def test_a_helicopter_at_a_heliport_beside_the_runway_is_no_movement(category: int | None, step: int) -> None:
    """A hospital's heliport has no runway, and the airport next to it has no landing."""
    flight = fly("abcdef", BEGIN + 60.0, LARGE, LARGE.ends[0], helicopter(), category=category)
    assert detect([flight], step) == []


@pytest.mark.parametrize("category", [Category.SERVICE_VEHICLE, Category.POINT_OBSTACLE, Category.LIGHTER_THAN_AIR])
def test_what_is_no_aircraft_on_wheels_never_moves(category: int) -> None:
    """Its category says so, even where its positions look like a landing."""
    assert detect([fly("abcdef", BEGIN + 60.0, LARGE, LARGE.ends[0], landing(), category=category)]) == []


@pytest.mark.parametrize("step", [10, 30, 60])
def test_a_light_aircraft_that_stops_has_landed_once(step: int) -> None:
    """After touch-and-goes as well: only the last landing rolls out."""
    circuits = fly("abcdef", BEGIN + 60.0, FIELD, FIELD.ends[0], touch_and_go())
    stop = fly("abcdef", circuits.samples[-1][0] + 400.0, FIELD, FIELD.ends[0], full_stop(), "arr")
    flight = Flight("abcdef", [*circuits.samples, *stop.samples], stop.expected, FIELD.elevation_m)
    (movement,) = detect([flight], step)
    assert judge([movement], flight.expected, "arr").found == 1
    assert movement.evidence is Evidence.SURFACE


def test_flags_that_flicker_on_the_stand_are_no_movement() -> None:
    """An aircraft at its gate says for a moment that it flies, at 10,668 m, as real ones do."""
    stands = fly(
        "abcdef", BEGIN + 60.0, LARGE, LARGE.ends[0], [(900.0, -500.0, 0.0, 9.0), (900.0, -500.0, 0.0, 1800.0)]
    )
    polls = []
    for poll in hear([stands], 10, CLEAR, seed=1):
        flying = [
            each._replace(on_ground=False, baro_altitude_m=10_668.0, velocity_m_s=51.0, vertical_rate_m_s=9.0)
            for each in poll.states
        ]
        polls.append(Poll(poll.time, flying if poll.time % 50 in (0, 10) else poll.states))
    assert list(detect_movements(polls, AIRFIELDS)) == []


def test_silence_on_final_is_a_landing_only_after_the_time_of_a_go_around() -> None:
    """From 150 m that is some two minutes; whoever climbs again before is not counted."""
    flight = fly("abcdef", BEGIN + 60.0, LARGE, LARGE.ends[0], landing(), "arr")
    detector, found = MovementDetector(AIRFIELDS), []
    for poll in hear([flight], 10, Reception(150.0, hears_surface=False, noise=False), seed=1):
        found += [(poll.time, each) for each in detector.observe(poll)]
    ((when, movement),) = found
    assert movement.evidence is Evidence.SILENT_ON_FINAL
    assert when - flight.expected[0].time + 60.0 >= 90.0
    assert when - flight.expected[0].time <= 300.0


@pytest.mark.parametrize("missing", [(300.0, 330.0), (300.0, 420.0), (200.0, 500.0)])
def test_a_pause_in_the_polls_loses_no_landing_with_surface_reports(missing: tuple[float, float]) -> None:
    """Before the pause the aircraft flew, after it the aircraft taxies: it has landed."""
    flight = fly("abcdef", BEGIN + 60.0, LARGE, LARGE.ends[0], landing(stands=900.0), "arr")
    polls = [each for each in hear([flight], 10, CLEAR, 1) if not missing[0] <= each.time - BEGIN <= missing[1]]
    assert judge(detect_movements(polls, AIRFIELDS), flight.expected, "arr").found == 1


def test_polls_that_are_not_later_change_nothing() -> None:
    """A source whose clock stands still, or that gives an old answer again, adds no movement and takes none away."""
    flight = fly("abcdef", BEGIN + 60.0, LARGE, LARGE.ends[0], landing(), "arr")
    polls = list(hear([flight], 10, CLEAR, seed=1))
    doubled = [each for index, poll in enumerate(polls) for each in (poll, poll, polls[max(index - 5, 0)])]
    assert list(detect_movements(doubled, AIRFIELDS)) == list(detect_movements(polls, AIRFIELDS))


def test_a_source_that_repeats_positions_for_ever_gives_one_landing() -> None:
    """The last position before the silence stays in every answer: its own time says how old it is."""
    flight = fly("abcdef", BEGIN + 60.0, LARGE, LARGE.ends[0], landing(), "arr")
    polls, last = [], None
    for poll in hear([flight], 10, Reception(100.0, hears_surface=False, noise=False), seed=1):
        last = poll.states[0] if poll.states else last
        polls.append(Poll(poll.time, [last] if last is not None else []))
    assert len(list(detect_movements(polls, AIRFIELDS))) == 1


def test_who_is_gone_is_forgotten() -> None:
    """The memory holds aircraft near airfields, for twenty minutes after they were last heard."""
    flights = [fly(f"{index:06x}", BEGIN + 60.0, LARGE, LARGE.ends[0], overflight(600.0)) for index in range(1, 40)]
    detector = MovementDetector(AIRFIELDS)
    most = 0
    for poll in hear(flights, 30, CLEAR, seed=1, until=BEGIN + 4_000.0):
        detector.observe(poll)
        most = max(most, detector.aircraft)
    assert most == 39
    assert detector.aircraft == 0


def test_an_approach_in_the_first_poll_and_a_climb_before_it_are_told_apart() -> None:
    """Whoever is in its climb when the polls begin took off before them: that movement is not of these polls."""
    flight = shift(fly("abcdef", BEGIN, LARGE, LARGE.ends[0], take_off(), "dep"), -330.0)
    polls = [each for each in hear([flight], 10, CLEAR, seed=1) if each.time >= BEGIN]
    assert list(detect_movements(polls, AIRFIELDS)) == []


def test_an_airfield_without_known_runways_needs_surface_reports() -> None:
    """There a landing is slow on the ground for long; silence and climbs are evidence only with a runway."""
    bare = Airfield("EDBA", LARGE.latitude, LARGE.longitude, LARGE.elevation_m, 2_000.0)
    flight = fly("abcdef", BEGIN + 60.0, LARGE, LARGE.ends[0], landing())
    index = AirfieldIndex((bare,))
    heard = list(detect_movements(hear([flight], 10, CLEAR, seed=1), index))
    assert [(each.airport, each.evidence) for each in heard] == [("EDBA", Evidence.SURFACE)]
    silent = Reception(150.0, hears_surface=False, noise=False)
    assert list(detect_movements(hear([flight], 10, silent, seed=1), index)) == []


_numbers = st.none() | st.floats(-1_000.0, 40_000.0)


@given(
    rows=st.lists(
        st.tuples(
            st.integers(-60, 60), st.floats(49.9, 50.1), st.floats(7.9, 8.2), st.none() | st.booleans(),
            _numbers, st.none() | st.floats(0.0, 1_000.0), st.none() | st.floats(0.0, 359.0),
            st.none() | st.floats(-200.0, 200.0), st.none() | st.integers(0, 20), st.booleans(),
        ),
        max_size=40,
    ),
    step=st.integers(1, 200),
)  # fmt: skip
def test_no_sequence_of_states_ends_in_an_error(rows: list[tuple[Any, ...]], step: int) -> None:
    """Whatever an aircraft sends, its movements lie between the first and the last poll."""
    polls = []
    for index, (age, latitude, longitude, on_ground, altitude, speed, track, rate, category, is_there) in enumerate(
        rows
    ):
        time = float(BEGIN + index * step)
        position = Position(time - abs(age), latitude, longitude) if age else None
        state = StateVector(
            "abcdef", "", time, position, on_ground, altitude, None, speed, track, rate, category, PositionSource.ADS_B
        )
        polls.append(Poll(time, [state] if is_there else []))
    movements = list(detect_movements(polls, AIRFIELDS))
    assert all(BEGIN <= each.event_time.timestamp() <= BEGIN + len(rows) * step for each in movements)


def test_the_same_polls_give_the_same_movements() -> None:
    """The fold has no clock and no chance: a new leader that reads the last hour again knows what the old one knew."""
    flights = fill_sky(seed=5)[:20]
    polls = list(hear(flights, 30, Reception(), seed=5))
    assert list(detect_movements(polls, AIRFIELDS)) == list(detect_movements(polls, AIRFIELDS))


CLIMB = [
    (300.0, 0.0, 0.0, 60.0),
    (1_500.0, 0.0, 0.0, 80.0),
    (20_000.0, 0.0, 1_500.0, 85.0),
    (50_000.0, 0.0, 4_500.0, 160.0),
]
"""A roll and a straight climb with a gradient of 8 %, as heavy aircraft have."""


@pytest.mark.parametrize("step", [10, 30, 60])
@pytest.mark.parametrize("floor_m", [300.0, 450.0, 600.0])
def test_a_climb_that_is_first_heard_high_is_found_however_often_it_is_polled(floor_m: float, step: int) -> None:
    """What nobody hears near the ground is as long with polls every 10 s as with polls every 60 s."""
    flight = fly("abcdef", BEGIN + 60.0, LARGE, LARGE.ends[0], CLIMB, "dep")
    movements = detect([flight], step, Reception(floor_m, hears_surface=False, noise=False))
    assert judge(movements, flight.expected, "dep").found == 1


@pytest.mark.parametrize("unknown", [("baro_altitude_m",), ("velocity_m_s", "track_deg", "vertical_rate_m_s")])
def test_a_climb_whose_first_report_is_incomplete_is_found(unknown: tuple[str, ...]) -> None:
    """The altitude comes back from the next report; the direction, after which it may have turned, from the line."""
    points = [
        *CLIMB[:2],
        (6_700.0, 0.0, 480.0, 80.0),
        (7_300.0, 500.0, 560.0, 80.0),
        (7_300.0, 40_000.0, 4_500.0, 150.0),
    ]
    flight = fly("abcdef", BEGIN + 39.0, LARGE, LARGE.ends[0], points, "dep")
    polls, is_first = [], True
    for poll in hear([flight], 60, Reception(100.0, hears_surface=False, noise=False), seed=1):
        states = poll.states
        if states and is_first:
            states = [states[0]._replace(**dict.fromkeys(unknown))]
            is_first = False
        polls.append(Poll(poll.time, states))
    assert judge(detect_movements(polls, AIRFIELDS), flight.expected, "dep").found == 1


_shifts = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 900)), max_size=8)


@given(_shifts)
def test_polls_whose_time_steps_back_change_nothing(steps: list[tuple[int, int]]) -> None:
    """When a source drops out of a merge, the time of the poll may be earlier than before: no such poll counts."""
    flight = fly("abcdef", BEGIN + 60.0, LARGE, LARGE.ends[0], landing(), "arr")
    polls = list(hear([flight], 20, CLEAR, seed=1))
    expected = list(detect_movements(polls, AIRFIELDS))
    late = dict(steps)
    mixed = []
    for index, poll in enumerate(polls):
        mixed.append(poll)
        if index in late:
            mixed.append(Poll(poll.time - late[index], poll.states))
    assert list(detect_movements(mixed, AIRFIELDS)) == expected


def test_a_landing_that_is_next_heard_far_down_the_runway_keeps_its_time() -> None:
    """Its last fix on final says when it touched down, not the fix minutes later at which it still rolls."""
    points = [
        (-9_000.0, 0.0, 480.0, 77.0),
        (300.0, 0.0, 0.0, 70.0),
        (1_200.0, 0.0, 0.0, 20.0),
        (2_200.0, 0.0, 0.0, 10.0),
    ]
    flight = fly(
        "abcdef",
        BEGIN + 60.0,
        LARGE,
        LARGE.ends[0],
        [*points, (2_200.0, -300.0, 0.0, 8.0), (2_200.0, -300.0, 0.0, 400.0)],
        "arr",
    )
    touched = flight.expected[0].time
    polls = [each for each in hear([flight], 10, CLEAR, seed=1) if not touched - 50.0 < each.time < touched + 80.0]
    (movement,) = detect_movements(polls, AIRFIELDS)
    assert abs(movement.event_time.timestamp() - touched) <= 40.0


def test_the_speed_on_final_is_what_the_aircraft_says() -> None:
    """The mean since the last fix is low after a circle or a turn, and would tell the landing minutes too late."""
    end = LARGE.ends[0]
    flight = fly("abcdef", BEGIN, LARGE, end, [(-12_000.0, 0.0, 630.0, 80.0), (-11_000.0, 0.0, 580.0, 80.0)])
    time, latitude, longitude, height, _ = flight.samples[0]
    fix = Fix(time, latitude, longitude, height + LARGE.elevation_m, False, 36.0, 80.0, end.heading_deg, -4.0)
    approach = find_approach(fix, [LARGE])
    assert approach is not None
    assert approach.touch_down - time == pytest.approx(12_000.0 / 80.0, abs=2.0)
