"""A made-up sky of the whole world, with thousands of aircraft that fly to and fro between the runways of the table.

Each aircraft repeats a round of its own for ever: from the stand to a runway, over to another airport, to the stand
there, and back after a pause in which nobody hears it. So the sky of any instant is computed without those before it,
in a tenth of a second, and its movements are known. Everything is seeded.
"""

import json
import math
import random
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Final, NamedTuple

from collector.live.airfields import Airfield, RunwayEnd, read_runways
from domain.airports import find_airport
from domain.interests import Direction

AIRPORTS: Final = 2_000
"""Airports that the aircraft use; the busiest has as many movements as Atlanta."""
_METRES_PER_DEGREE: Final = 111_195.0
_SHORTEST_RUNWAY_M: Final = 1_800.0
_HEARD_FROM_M: Final = 120.0
"""Height above an airport without receivers on the ground from which aircraft are heard."""
_DROPOUTS: Final = 2
"""Of 256 rows so many are missing, by turns."""
_SHORTEST_M, _LONGEST_M = 250_000.0, 5_000_000.0
_TAXI_S, _ROLL_S, _STRAIGHT_S, _FINAL_S = 300, 35, 75, 240
_CLIMB_M_S, _DESCENT_M_S, _CRUISE_M_S = 10.0, 6.5, 215.0


class SkyFlight(NamedTuple):
    """A flight of the sky, by its take-off and its landing in Unix seconds."""

    icao24: str
    callsign: str
    origin: str
    goal: str
    took_off: float
    landed: float


class _Waypoint(NamedTuple):
    """An aircraft's position at a time after it left its stand; between two waypoints it moves evenly."""

    time: float
    latitude: float
    longitude: float
    altitude_m: float
    on_ground: bool
    """True until the next waypoint."""


class _Leg(NamedTuple):
    """The way from one waypoint to the next."""

    time: float
    latitude: float
    longitude: float
    altitude_m: float
    north: float
    """Degrees per second."""
    east: float
    climb: float
    floor_m: float
    """Below this altitude nobody hears the aircraft."""
    tail: str
    """The rest of the row in JSON: on ground, speed, track and vertical rate, and what is the same for all."""


class _Hop(NamedTuple):
    """A flight from stand to stand."""

    start: float
    """In the aircraft's round."""
    times: tuple[float, ...]
    """Of the waypoints, after `start`."""
    legs: tuple[_Leg, ...]
    origin: str
    goal: str
    took_off: float
    """Seconds after `start`."""
    landed: float


class _Aircraft(NamedTuple):
    """An aircraft with its round."""

    icao24: str
    callsign: str
    head: str
    """The begin of its row in JSON."""
    period: float
    offset: float
    hops: tuple[_Hop, _Hop]


class WorldSky:
    """The sky: its rows at any instant, and its movements."""

    def __init__(self, aircraft: int, seed: int = 17) -> None:
        """`aircraft`: the number that is heard at an instant, in the mean."""
        chance = random.Random(seed)
        fields = [
            each
            for each in read_runways()
            if abs(each.latitude) < 65.0
            and find_airport(each.icao) is not None
            and any(end.length_m >= _SHORTEST_RUNWAY_M for end in each.ends)
        ]
        fields.sort(key=lambda each: (-each.apron_m, chance.random()))
        self.airports: Sequence[Airfield] = fields[:AIRPORTS]
        """From the busiest to the quietest; the large ones are the busy ones."""
        weights = list(accumulate((rank + 10) ** -0.7 for rank in range(len(self.airports))))
        floors = {each.icao: 0.0 if chance.random() < 0.6 else _HEARD_FROM_M for each in self.airports}
        self._fleet: list[_Aircraft] = []
        self._by_target: dict[tuple[str, Direction], list[tuple[_Aircraft, _Hop]]] = {}
        heard = 0.0
        while heard < aircraft:
            base = chance.choices(self.airports, cum_weights=weights)[0]
            other = chance.choices(self.airports, cum_weights=weights)[0]
            if not _SHORTEST_M <= _measure_m(base, other) <= _LONGEST_M:
                continue
            made = _build_aircraft(len(self._fleet), base, other, floors, chance)
            self._fleet.append(made)
            for hop in made.hops:
                self._by_target.setdefault((hop.origin, Direction.DEPARTURES), []).append((made, hop))
                self._by_target.setdefault((hop.goal, Direction.ARRIVALS), []).append((made, hop))
            heard += sum(each.times[-1] for each in made.hops) / made.period

    def encode(self, now: int) -> bytes:
        """Return the answer of `/states/all` at an instant, in Unix seconds."""
        rows: list[str] = []
        for number, (_, _, head, period, offset, (out, back)) in enumerate(self._fleet):
            passed = (now + offset) % period
            hop = back if passed >= back.start else out
            passed -= hop.start
            if passed >= hop.times[-1] or (number * 40_503 + now * 7) & 0xFF < _DROPOUTS:
                continue
            leg = hop.legs[bisect_right(hop.times, passed) - 1]
            passed -= leg.time
            altitude = leg.altitude_m + leg.climb * passed
            if altitude < leg.floor_m:
                continue
            sent = now - (number & 3)
            longitude, latitude = leg.longitude + leg.east * passed, leg.latitude + leg.north * passed
            rows.append(f"{head}{sent},{sent},{longitude:.4f},{latitude:.4f},{altitude:.1f},{leg.tail}")
        return f'{{"time":{now},"states":[{",".join(rows)}]}}'.encode()

    def list_flights(self, airport: str, direction: Direction, begin: float, end: float) -> Iterator[SkyFlight]:
        """Yield the flights that take off from an airport, or land there, in [begin, end); aircraft by aircraft."""
        for each, hop in self._by_target.get((airport, direction), ()):
            at = hop.took_off if direction is Direction.DEPARTURES else hop.landed
            first = hop.start + at - each.offset
            time = first + math.ceil((begin - first) / each.period) * each.period
            while time < end:
                left = time - at
                yield SkyFlight(
                    each.icao24, each.callsign, hop.origin, hop.goal, left + hop.took_off, left + hop.landed
                )
                time += each.period


def _build_aircraft(
    number: int, base: Airfield, other: Airfield, floors: dict[str, float], chance: random.Random
) -> _Aircraft:
    """Return an aircraft that flies to and fro between two airports."""
    out = _build_hop(0.0, base, other, floors, chance)
    back = _build_hop(out.times[-1] + chance.uniform(2_400.0, 9_000.0), other, base, floors, chance)
    period = back.start + back.times[-1] + chance.uniform(2_400.0, 9_000.0)
    icao24 = f"{0x400000 + number * 7:06x}"
    callsign = f"TW{number}"
    head = f'["{icao24}","{callsign:<8}","Nowhere",'
    return _Aircraft(icao24, callsign, head, period, chance.uniform(0.0, period), (out, back))


def _build_hop(start: float, origin: Airfield, goal: Airfield, floors: dict[str, float], chance: random.Random) -> _Hop:
    """Return a flight over a runway of each airport, drawn by chance."""
    take_off, landing = _draw_runway_end(origin, chance), _draw_runway_end(goal, chance)
    outer, fix = _locate_point(origin, take_off, 8_000.0), _locate_point(goal, landing, -18_000.0)
    ground, far_ground = origin.elevation_m, goal.elevation_m
    north, east = fix[0] - outer[0], fix[1] - outer[1]
    cosine = math.cos(math.radians((fix[0] + outer[0]) / 2))
    took = math.hypot(north, east * cosine) * _METRES_PER_DEGREE / _CRUISE_M_S
    cruise = max(ground, far_ground) + min(chance.uniform(8_500.0, 11_500.0), 3.0 * took)
    left = _TAXI_S + _ROLL_S + _STRAIGHT_S
    climb_s = (cruise - ground - 750.0) / _CLIMB_M_S
    descent_s = (cruise - far_ground - 950.0) / _DESCENT_M_S
    top, bottom = climb_s / took, 1 - descent_s / took
    down = left + took + _FINAL_S
    points = [
        _Waypoint(0.0, *_locate_point(origin, take_off, 0.0, 600.0), ground, True),
        _Waypoint(_TAXI_S, *_locate_point(origin, take_off, 0.0), ground, True),
        _Waypoint(_TAXI_S + _ROLL_S, *_locate_point(origin, take_off, 1_400.0), ground, False),
        _Waypoint(left, *outer, ground + 750.0, False),
        _Waypoint(left + climb_s, outer[0] + north * top, outer[1] + east * top, cruise, False),
        _Waypoint(left + took - descent_s, outer[0] + north * bottom, outer[1] + east * bottom, cruise, False),
        _Waypoint(left + took, *fix, far_ground + 950.0, False),
        _Waypoint(down, *_locate_point(goal, landing, 0.0), far_ground, True),
        _Waypoint(down + 40, *_locate_point(goal, landing, 1_500.0), far_ground, True),
        _Waypoint(down + 40 + _TAXI_S, *_locate_point(goal, landing, 1_500.0, 600.0), far_ground, True),
    ]
    legs = []
    for number, (here, there) in enumerate(pairwise(points)):
        airport, level = (origin, ground) if number < len(points) / 2 else (goal, far_ground)
        legs.append(_build_leg(here, there, level + floors[airport.icao] if floors[airport.icao] else -1_000.0))
    return _Hop(
        start,
        tuple(each.time for each in points),
        tuple(legs),
        origin.icao,
        goal.icao,
        float(_TAXI_S + _ROLL_S),
        down,
    )


def _build_leg(here: _Waypoint, there: _Waypoint, floor_m: float) -> _Leg:
    """Return the way between two waypoints."""
    took = there.time - here.time
    north, east = (there.latitude - here.latitude) / took, (there.longitude - here.longitude) / took
    climb = (there.altitude_m - here.altitude_m) / took
    metres = _METRES_PER_DEGREE * math.cos(math.radians(here.latitude))
    speed = math.hypot(north * _METRES_PER_DEGREE, east * metres)
    track = math.degrees(math.atan2(east * metres, north * _METRES_PER_DEGREE)) % 360.0
    rest = [here.on_ground, round(speed, 1), round(track, 1), round(climb, 1), None, None, None, False, 0, 3]
    tail = json.dumps(rest, separators=(",", ":"))[1:]
    return _Leg(here.time, here.latitude, here.longitude, here.altitude_m, north, east, climb, floor_m, tail)


def _draw_runway_end(airport: Airfield, chance: random.Random) -> RunwayEnd:
    """Draw one of the ends of the airport's runways that are long enough."""
    return chance.choice([end for end in airport.ends if end.length_m >= _SHORTEST_RUNWAY_M])


def _locate_point(airport: Airfield, end: RunwayEnd, along_m: float, left_m: float = 0.0) -> tuple[float, float]:
    """Return the latitude and longitude of a point so far along a runway's direction, and to the left of it."""
    x = end.x + end.east * along_m - end.north * left_m
    y = end.y + end.north * along_m + end.east * left_m
    metres = _METRES_PER_DEGREE * math.cos(math.radians(airport.latitude))
    return airport.latitude + y / _METRES_PER_DEGREE, airport.longitude + x / metres


def _measure_m(one: Airfield, other: Airfield) -> float:
    """Return the distance in metres as the aircraft fly it, on a straight line of the map; not over the date line."""
    east = other.longitude - one.longitude
    cosine = math.cos(math.radians((one.latitude + other.latitude) / 2))
    return math.hypot(other.latitude - one.latitude, east * cosine) * _METRES_PER_DEGREE
