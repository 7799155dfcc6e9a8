"""What aircraft do between sightings that are minutes apart: learned from recordings with little reception."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from collector.live.airfields import AirfieldIndex
from collector.live.movements import Movement, MovementDetector
from collector.live.snapshots import FeedMemory, dump_memory, load_memory
from domain.interests import Direction
from tests.collector.live.skies import BEGIN, Flight, Point, Reception, fly, hear, make_airfield, shift

FIELD = make_airfield("EDLA", 50.0, 8.0, 70.0)
AIRFIELDS = AirfieldIndex((FIELD,))
ARRIVALS, DEPARTURES = Direction.ARRIVALS, Direction.DEPARTURES
LONG_FINAL: list[Point] = [(-22_000.0, 0.0, 900.0, 90.0), (-11_000.0, 0.0, 610.0, 90.0)]
CIRCLE: list[Point] = [
    (-11_000.0, 9_000.0, 500.0, 80.0),
    (-22_000.0, 9_000.0, 500.0, 80.0),
    (-22_000.0, 0.0, 500.0, 80.0),
]
SHORT_FINAL: list[Point] = [
    (-3_000.0, 0.0, 170.0, 65.0),
    (300.0, 0.0, 0.0, 65.0),
    (1_500.0, 0.0, 0.0, 15.0),
    (1_600.0, -300.0, 0.0, 8.0),
]


def find(flight: Flight, *heard: tuple[float, float], step: int = 10) -> list[Movement]:
    """Return the movements of a flight that is heard only between these seconds after its begin.

    The detector's memory is written and read again before each poll, as by leaders that follow each other.
    """
    begin = flight.samples[0][0]
    samples = [each for each in flight.samples if any(one <= each[0] - begin <= other for one, other in heard)]
    detector, found = MovementDetector(AIRFIELDS), []
    for poll in hear([replace(flight, samples=samples)], step, Reception(noise=False), seed=1):
        memory = load_memory(dump_memory(FeedMemory(detector.get_memory())), AIRFIELDS)
        detector = MovementDetector(AIRFIELDS)
        detector.restore(memory.detector)
        found += detector.observe(poll)
    return found


def fly_along(points: Sequence[Point]) -> Flight:
    """Return the flight along points of the airfield's first runway, two minutes after the first poll."""
    return fly("abcdef", BEGIN + 120.0, FIELD, FIELD.ends[0], points)


def find_time(flight: Flight, height_m: float) -> float:
    """Return how many seconds after its begin a flight is this low for the first time."""
    begin = flight.samples[0][0]
    return next(each[0] - begin for each in flight.samples if each[3] <= height_m)


@pytest.mark.parametrize("step", [10, 30, 60])
def test_an_aircraft_on_final_again_after_a_silence_has_landed_once(step: int) -> None:
    """It fell silent on a long final, flew a circle that nobody heard, and was heard again before the runway."""
    flight = fly_along([*LONG_FINAL, *CIRCLE, *SHORT_FINAL])
    again = find_time(flight, 170.0)
    assert again > 500.0
    movements = find(flight, (0.0, 120.0), (again, again + step + 5.0), step=step)
    assert [each.direction for each in movements] == [ARRIVALS]
    # The same aircraft, first heard on its long final a quarter of an hour before: that is another landing.
    later = [*LONG_FINAL, (-11_000.0, 0.0, 610.0, 1_000.0), *CIRCLE, *SHORT_FINAL]
    flight = fly_along(later)
    again = find_time(flight, 170.0)
    movements = find(flight, (0.0, 120.0), (again, again + step + 5.0), step=step)
    assert [each.direction for each in movements] == [ARRIVALS, ARRIVALS]


def test_a_trainer_whose_take_offs_nobody_hears_is_not_forgotten() -> None:
    """Circuits of some eight minutes, heard on the final alone: not only the first landing is told."""
    flight = fly_along([*LONG_FINAL, *CIRCLE] * 4)
    high = replace(flight, samples=[each for each in flight.samples if each[3] >= 610.0])
    movements = find(high, (0.0, 10_000.0))
    assert [each.direction for each in movements] == [ARRIVALS, ARRIVALS]
    assert 900 <= (movements[1].event_time - movements[0].event_time).total_seconds() < 1_200


def test_an_aircraft_that_took_off_in_between_has_landed_twice() -> None:
    """A circuit of five minutes: both landings are told, as the take-off is."""
    roll: list[Point] = [
        (400.0, 0.0, 0.0, 12.0),
        (500.0, 0.0, 0.0, 8.0),
        (500.0, 0.0, 0.0, 60.0),
        (600.0, 0.0, 0.0, 30.0),
    ]
    climb: list[Point] = [(1_500.0, 0.0, 0.0, 70.0), (6_000.0, 0.0, 400.0, 80.0), (7_000.0, 4_000.0, 400.0, 80.0)]
    back: list[Point] = [(-9_000.0, 4_000.0, 400.0, 80.0), (-9_000.0, 0.0, 400.0, 80.0)]
    flight = fly_along([(-9_000.0, 0.0, 470.0, 75.0), (300.0, 0.0, 0.0, 65.0), *roll, *climb, *back, *SHORT_FINAL])
    movements = find(flight, (0.0, 5_000.0))
    assert [each.direction for each in movements] == [ARRIVALS, DEPARTURES, ARRIVALS]


@pytest.mark.parametrize("turn", [-1.0, 1.0])
def test_an_aircraft_that_turns_away_before_the_runway_has_not_landed_there(turn: float) -> None:
    """It is last heard within the width of the final, but flies across it to the neighbouring airport."""
    flight = fly_along(
        [(-16_000.0, 0.0, 800.0, 70.0), (-9_000.0, 0.0, 450.0, 60.0), (-9_000.0, turn * 650.0, 420.0, 60.0)]
    )
    assert find(flight, (0.0, 400.0)) == []


def test_silence_far_from_the_runway_is_no_landing_before_it_can_be_there() -> None:
    """Low and far, as in a valley: the way to the runway takes longer than a go-around from that height."""
    flight = fly_along([(-20_000.0, 0.0, 120.0, 65.0), (-13_000.0, 0.0, 90.0, 65.0)])
    begin = flight.samples[-1][0]
    detector = MovementDetector(AIRFIELDS)
    revealed = [
        poll.time - begin for poll in hear([flight], 10, Reception(noise=False), seed=1) if detector.observe(poll)
    ]
    assert len(revealed) == 1
    assert revealed[0] >= 13_000.0 / 65.0 + 30.0


@pytest.mark.parametrize("flags", [True, False])
def test_a_landing_that_is_last_heard_over_the_runway_and_then_beside_it_is_found(flags: bool) -> None:
    """Polls of a minute: between two of them it has rolled out and left the runway, and perhaps never said so."""
    roll: list[Point] = [(900.0, 0.0, 0.0, 10.0), (950.0, -300.0, 0.0, 8.0), (950.0, -300.0, 0.0, 300.0)]
    flight = fly_along([(-9_000.0, 0.0, 480.0, 77.0), (300.0, 0.0, 0.0, 70.0), *roll])
    down = find_time(flight, 5.0)
    flight = shift(flight, -(120.0 + down) % 60.0)
    samples = [(*each[:4], each[4] and flags) for each in flight.samples]
    movements = find(replace(flight, samples=samples), (0.0, down), (down + 58.0, down + 62.0), step=60)
    assert [each.direction for each in movements] == [ARRIVALS]
