"""The airfields of the sky: their runways, which of them is in use, and down to which height they are heard.

`runways.csv`: runways with both thresholds of the airports in the timetable (and of KTEB, between them), from
OurAirports' public-domain data (runways of 2026-08-22). Runways of water and helipads are left out; West Palm Beach
has the code that the timetable has (KDJT, once KPBI). An airport that is not in the file gets one invented runway.
"""

import csv
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from math import cos, radians
from pathlib import Path
from typing import Final

import airportsdata

from local.opensky.sky.chance import derive_seed, draw, draw_between
from local.opensky.sky.geometry import Point, compute_bearing, compute_distance, compute_turn, move_point

FOOT_M: Final = 0.3048
UNHEARD_FLOOR_M: Final = 10_000 * FOOT_M
"""The floor of an airport that nobody hears: only aircraft that pass high above are."""
_FLOORS_FT: Final = (0, 0, 500, 500, 1_000, 1_500)
"""Floors of reception, one of which each airport gets by chance, unless it is given."""
_KNOWN_FLOORS_FT: Final = {"KJFK": 0, "KEWR": 500, "KLGA": 1_000, "KBOS": 0, "KORD": 0, "KATL": 0}
"""Floors of the airports that stories and tests are about: from Newark and LaGuardia no surface position is heard."""
_WIND_HOLDS_S: Final = 21_600
"""Seconds for which the wind stays as it is."""
_REGION_DEG: Final = 4.0
"""Airports in one square of this size have the same wind and the same air pressure."""
_SHORTEST_SHARE: Final = 0.5
"""A runway shorter than this share of the airport's longest one is not used."""
_PARALLEL_DEG: Final = 8.0
_INVENTED_LENGTH_M: Final = 2_400.0


@dataclass(frozen=True)
class RunwayEnd:
    """A runway in the direction in which it is used."""

    name: str
    """As pilots say it, like "04L"."""
    threshold: Point
    far_end: Point

    @cached_property
    def heading(self) -> float:
        """The direction in which aircraft take off and land on it."""
        return compute_bearing(self.threshold, self.far_end)

    @cached_property
    def length(self) -> float:
        return compute_distance(self.threshold, self.far_end)


@dataclass(frozen=True, eq=False)
class Airfield:
    """An airport with its runways."""

    icao: str
    elevation_m: float
    ends: tuple[RunwayEnd, ...]
    """Both ends of each runway."""

    @cached_property
    def centre(self) -> Point:
        """The middle of the runways' ends."""
        points = [end.threshold for end in self.ends]
        return Point(
            sum(point.latitude for point in points) / len(points),
            sum(point.longitude for point in points) / len(points),
        )

    @cached_property
    def region(self) -> tuple[int, int]:
        """The region whose weather the airport has."""
        return round(self.centre.latitude / _REGION_DEG), round(self.centre.longitude / _REGION_DEG)

    def choose_end(self, seed: int, time: int, flight: int) -> RunwayEnd:
        """Return the end from which a flight takes off, or on which it lands, against the wind of that time.

        Of parallel runways, chance chooses by `flight`, a seed of the flight's own.
        """
        ends = _list_ends_in_use(self, seed, time // _WIND_HOLDS_S)
        return ends[int(draw(flight, 1) * len(ends))]

    def find_pressure_error(self, seed: int, time: float, largest_m: float) -> float:
        """Return by how many metres barometric altitude reads too high here, from -`largest_m` to `largest_m`.

        Air pressure changes from day to day: the value is drawn for each midnight of UTC, and changes evenly between.
        """
        day, second = divmod(time, 86_400)
        before, after = (_draw_pressure_error(seed, self.region, int(each)) for each in (day, day + 1))
        return largest_m * (before + (after - before) * second / 86_400)

    def find_default_floor(self, seed: int) -> float:
        """Return the height in metres below which nobody hears aircraft here; 0: surface positions are heard, too."""
        known = _KNOWN_FLOORS_FT.get(self.icao)
        if known is None:
            known = _FLOORS_FT[derive_seed("floor", seed, self.icao) % len(_FLOORS_FT)]
        return known * FOOT_M


@lru_cache(maxsize=4_096)
def _list_ends_in_use(airfield: Airfield, seed: int, wind_period: int) -> tuple[RunwayEnd, ...]:
    """Return the ends of parallel runways that point best into the wind, in the wind's period of that number."""
    wind = draw_between(0.0, 360.0, "wind", seed, *airfield.region, wind_period)
    longest = max(end.length for end in airfield.ends)
    usable = [end for end in airfield.ends if end.length >= _SHORTEST_SHARE * longest]
    best = max(usable, key=lambda end: cos(radians(compute_turn(end.heading, wind))))
    return tuple(end for end in usable if abs(compute_turn(end.heading, best.heading)) < _PARALLEL_DEG)


@lru_cache(maxsize=4_096)
def _draw_pressure_error(seed: int, region: tuple[int, int], day: int) -> float:
    """Draw the error of barometric altitude in a region at a midnight, from -1 to 1."""
    return draw_between(-1.0, 1.0, "pressure", seed, *region, day)


@cache
def find_airfield(icao: str) -> Airfield | None:
    """Return the airfield of an ICAO code; None if there is no such airport."""
    known = _load_airfields().get(icao)
    if known is not None:
        return known
    airport = airportsdata.load("ICAO").get(icao)
    if airport is None:
        return None
    centre = Point(airport["lat"], airport["lon"])
    heading = draw_between(0.0, 360.0, "runway", icao)
    a = move_point(centre, heading, -_INVENTED_LENGTH_M / 2)
    b = move_point(centre, heading, _INVENTED_LENGTH_M / 2)
    return Airfield(icao, airport["elevation"] * FOOT_M, (RunwayEnd("A", a, b), RunwayEnd("B", b, a)))


@cache
def _load_airfields() -> dict[str, Airfield]:
    """Read the table of runways; return the airfields by ICAO code."""
    elevations: dict[str, float] = {}
    ends: dict[str, list[RunwayEnd]] = {}
    with Path(__file__).with_name("runways.csv").open(encoding="ascii", newline="") as file:
        for row in csv.DictReader(file):
            low = Point(float(row["le_lat"]), float(row["le_lon"]))
            high = Point(float(row["he_lat"]), float(row["he_lon"]))
            elevations[row["airport"]] = float(row["elevation_ft"]) * FOOT_M
            both = (RunwayEnd(row["le"], low, high), RunwayEnd(row["he"], high, low))
            ends.setdefault(row["airport"], []).extend(both)
    return {icao: Airfield(icao, elevations[icao], tuple(found)) for icao, found in ends.items()}
