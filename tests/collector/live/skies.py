"""A synthetic sky: aircraft on plausible paths on to and off runways, as receivers hear them. Seeded.

A path is a list of points in a runway's own directions: metres along it from its threshold, metres to the left, height
above the airfield in metres, and speed in m/s. An aircraft flies (or rolls) from point to point.
"""

import itertools
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from benchmarks.live_accuracy import Event
from collector.live.airfields import Airfield, RunwayEnd, build_airfield
from collector.sources.state_vector import Poll, Position, PositionSource, StateVector

FOOT_M = 0.3048
BEGIN = 1_700_000_000
_METRES_PER_DEGREE = 111_195.0

Point = tuple[float, float, float, float]


def make_airfield(
    icao: str, latitude: float, longitude: float, heading: float, runways: int = 1, length_m: float = 2_400.0
) -> Airfield:
    """Return an airfield at 100 m above the sea with parallel runways, 1,200 m from each other."""
    east = _METRES_PER_DEGREE * math.cos(math.radians(latitude))
    along = (math.sin(math.radians(heading)), math.cos(math.radians(heading)))
    thresholds = []
    for index in range(runways):
        side = (index - (runways - 1) / 2) * 1_200.0
        ends = [
            (along[0] * sign * length_m / 2 - along[1] * side, along[1] * sign * length_m / 2 + along[0] * side)
            for sign in (-1, 1)
        ]
        (low_x, low_y), (high_x, high_y) = ends
        thresholds.append(
            (
                latitude + low_y / _METRES_PER_DEGREE,
                longitude + low_x / east,
                latitude + high_y / _METRES_PER_DEGREE,
                longitude + high_x / east,
            )
        )
    return build_airfield(icao, 100.0, "m", thresholds)


@dataclass(frozen=True)
class Reception:
    """What a source hears, and how wrong it is."""

    floor_m: float = 0.0
    """Nothing is heard below this height above the airfield."""
    hears_surface: bool = True
    pressure_error_m: float = 0.0
    """Added to every barometric altitude."""
    noise: bool = True
    """Flags flicker, altitudes have spikes, and positions are repeated while they grow old."""


@dataclass(frozen=True)
class Flight:
    """One aircraft's path in seconds, and the movements that it has."""

    icao24: str
    samples: Sequence[tuple[float, float, float, float, bool]]
    """Unix seconds, latitude, longitude, height above the airfield, on the ground."""
    expected: Sequence[Event]
    elevation_m: float
    category: int | None = None


def fly(
    icao24: str,
    begin: float,
    airfield: Airfield,
    end: RunwayEnd,
    points: Sequence[Point],
    directions: str = "",
    category: int | None = None,
) -> Flight:
    """Return the flight along points; its movements are those of `directions` ("arr", "dep", "arr dep"), in order.

    A landing is where it first touches the ground, a take-off where it last leaves it.
    """
    samples: list[tuple[float, float, float, float, bool]] = []
    time = begin
    for (a0, l0, h0, v0), (a1, l1, h1, v1) in itertools.pairwise(points):
        distance = math.dist((a0, l0, h0), (a1, l1, h1))
        seconds = max(1, round(distance / max((v0 + v1) / 2, 0.5))) if distance > 1.0 else max(1, round(v1))
        for second in range(seconds):
            part = second / seconds
            along, left, height = a0 + (a1 - a0) * part, l0 + (l1 - l0) * part, h0 + (h1 - h0) * part
            samples.append((time + second, *_to_degrees(airfield, end, along, left), height, height <= 0.5))
        time += seconds
    touched = [sample[0] for before, sample in itertools.pairwise(samples) if sample[4] and not before[4]]
    lifted = [before[0] for before, sample in itertools.pairwise(samples) if before[4] and not sample[4]]
    times = {"arr": touched[0] if touched else 0.0, "dep": lifted[-1] if lifted else 0.0}
    expected = [Event(each, icao24, airfield.icao, times[each]) for each in directions.split()]
    return Flight(icao24, samples, expected, airfield.elevation_m, category)


def _to_degrees(airfield: Airfield, end: RunwayEnd, along: float, left: float) -> tuple[float, float]:
    """Return latitude and longitude of a point in a runway's directions."""
    x = end.x + along * end.east - left * end.north
    y = end.y + along * end.north + left * end.east
    east = _METRES_PER_DEGREE * math.cos(math.radians(airfield.latitude))
    return airfield.latitude + y / _METRES_PER_DEGREE, airfield.longitude + x / east


def landing(speed: float = 70.0, stands: float = 300.0, turn_m: float = 22_000.0) -> list[Point]:
    """A straight approach of 3 degrees, the roll, and a taxi to the apron, where the aircraft stands."""
    return [
        (-turn_m, 6_000.0, 1_500.0, speed * 1.6),
        (-turn_m + 5_000.0, 0.0, 900.0, speed * 1.3),
        (-9_000.0, 0.0, 480.0, speed * 1.1),
        (300.0, 0.0, 0.0, speed),
        (1_700.0, 0.0, 0.0, 15.0),
        (1_750.0, -400.0, 0.0, 8.0),
        (1_750.0, -400.0, 0.0, stands),
    ]


def take_off(speed: float = 80.0, stands: float = 200.0, turn: float = 1.0) -> list[Point]:
    """A taxi to the runway, the roll, a straight climb, and a turn to one side (`turn` 1 or -1) above 600 m."""
    return [
        (600.0, -400.0, 0.0, stands),
        (600.0, -400.0, 0.0, stands),
        (60.0, -150.0, 0.0, 8.0),
        (50.0, 0.0, 0.0, 5.0),
        (1_500.0, 0.0, 0.0, speed),
        (7_000.0, 0.0, 650.0, speed),
        (14_000.0, turn * 8_000.0, 1_800.0, speed * 1.4),
        (14_000.0, turn * 45_000.0, 5_500.0, speed * 2.0),
    ]


def go_around(lowest: float = 60.0, speed: float = 70.0) -> list[Point]:
    """An approach that ends in a climb along the runway, away from the airfield."""
    return [
        (-16_000.0, 0.0, 860.0, speed * 1.2),
        (-lowest / 0.0524, 0.0, lowest, speed),
        (2_400.0, 0.0, lowest + 250.0, speed * 1.1),
        (9_000.0, 0.0, 1_000.0, speed * 1.4),
        (30_000.0, 20_000.0, 3_800.0, speed * 2.0),
    ]


def touch_and_go(speed: float = 32.0) -> list[Point]:
    """A circuit of a light aircraft: it touches the runway, rolls on at 20 m/s or more, and flies another circuit."""
    circuit: list[Point] = [
        (2_400.0, 0.0, 150.0, speed),
        (3_000.0, 1_300.0, 280.0, speed * 1.2),
        (-1_500.0, 1_300.0, 300.0, speed * 1.3),
        (-2_000.0, 0.0, 120.0, speed),
    ]
    touch: list[Point] = [(250.0, 0.0, 0.0, speed * 0.9), (600.0, 0.0, 0.0, 20.0), (900.0, 0.0, 0.0, speed * 0.9)]
    return [circuit[2], circuit[3], *touch, *circuit, *touch, *circuit, (-9_000.0, 9_000.0, 700.0, speed * 1.5)]


def full_stop(speed: float = 32.0) -> list[Point]:
    """A light aircraft joins downwind, lands, and stands on the apron."""
    return [
        (12_000.0, 7_000.0, 600.0, speed * 1.4),
        (2_000.0, 1_300.0, 300.0, speed * 1.3),
        (-1_500.0, 1_300.0, 300.0, speed * 1.2),
        (-2_200.0, 0.0, 130.0, speed),
        (200.0, 0.0, 0.0, speed * 0.9),
        (600.0, 0.0, 0.0, 10.0),
        (650.0, -300.0, 0.0, 6.0),
        (650.0, -300.0, 0.0, 400.0),
    ]


def overflight(height: float = 900.0, speed: float = 120.0) -> list[Point]:
    """A pass over the airfield along its runway, in level flight."""
    return [(-40_000.0, 500.0, height, speed), (40_000.0, -500.0, height, speed)]


def helicopter() -> list[Point]:
    """A hop on to a heliport 900 m beside the runway, some minutes there, and away again."""
    return [
        (-8_000.0, 6_000.0, 350.0, 55.0),
        (800.0, 1_900.0, 200.0, 40.0),
        (1_200.0, 1_000.0, 40.0, 20.0),
        (1_250.0, 900.0, 0.6, 5.0),
        (1_250.0, 900.0, 0.6, 240.0),
        (1_400.0, 1_200.0, 60.0, 25.0),
        (9_000.0, 9_000.0, 350.0, 55.0),
    ]


def vehicle() -> list[Point]:
    """A car of the airport: up and down the runway at 25 m/s."""
    return [(0.0, 30.0, 0.0, 25.0), (2_300.0, 30.0, 0.0, 25.0), (0.0, -30.0, 0.0, 25.0), (0.0, -500.0, 0.0, 10.0)]


def hear(flights: Sequence[Flight], step: int, reception: Reception, seed: int, until: float = 0.0) -> Iterator[Poll]:
    """Yield the polls every `step` seconds of what is heard of flights, until all have been silent for long."""
    chance = random.Random(seed)
    last = max(flight.samples[-1][0] for flight in flights) + 900.0
    heard = {flight.icao24: {sample[0]: sample for sample in flight.samples} for flight in flights}
    stale: dict[str, StateVector] = {}
    for time in range(BEGIN, round(max(last, until)), step):
        states = []
        for flight in flights:
            sample = heard[flight.icao24].get(float(time)) or heard[flight.icao24].get(float(time - 1))
            if sample is None or not _is_heard(sample, reception):
                old = stale.get(flight.icao24)
                if old is not None and time - old.contact_time <= 20.0:
                    states.append(old)
                continue
            state = _tell(flight, sample, heard[flight.icao24].get(sample[0] + 1.0), reception, chance)
            before = stale.get(flight.icao24)
            if reception.noise and before is not None and chance.random() < 0.08:
                state = state._replace(position=before.position)
            stale[flight.icao24] = state
            states.append(state)
        yield Poll(float(time), states)


def _is_heard(sample: tuple[float, float, float, float, bool], reception: Reception) -> bool:
    """Return True if an aircraft is heard there: on the ground by receivers at the airfield, else above the floor."""
    return reception.hears_surface if sample[4] else sample[3] >= reception.floor_m


def _tell(
    flight: Flight,
    sample: tuple[float, float, float, float, bool],
    later: tuple[float, float, float, float, bool] | None,
    reception: Reception,
    chance: random.Random,
) -> StateVector:
    """Return what a source tells of an aircraft, who is there a second later, with the errors of the reception."""
    time, latitude, longitude, height, on_ground = sample
    speed = track = rate = None
    if later is not None and not on_ground:
        north = (later[1] - latitude) * _METRES_PER_DEGREE
        east = (later[2] - longitude) * _METRES_PER_DEGREE * math.cos(math.radians(latitude))
        speed, track, rate = math.hypot(north, east), math.degrees(math.atan2(east, north)) % 360.0, later[3] - height
    altitude: float | None = height + flight.elevation_m + reception.pressure_error_m + chance.uniform(-8.0, 8.0)
    if reception.noise:
        latitude += chance.uniform(-1.0, 1.0) * 10.0 / _METRES_PER_DEGREE
        if on_ground and chance.random() < 0.5:
            altitude = chance.choice((None, None, 10_668.0))
        elif chance.random() < 0.02:
            altitude = chance.choice((10_668.0, 0.0, 3_000.0))
        if chance.random() < 0.03 and height < 300.0:
            on_ground = not on_ground
    return StateVector(
        flight.icao24, "TEST1", time, Position(time, latitude, longitude), on_ground,
        altitude, None, speed, track, rate, flight.category, PositionSource.ADS_B,
    )  # fmt: skip


def shift(flight: Flight, seconds: float) -> Flight:
    """Return the same flight, so many seconds later."""
    return replace(
        flight,
        samples=[(time + seconds, *rest) for time, *rest in flight.samples],  # type: ignore[misc]
        expected=[replace(each, time=each.time + seconds) for each in flight.expected],
    )
