"""Airfields with their runways, and which of them are near a position.

Distances are computed in a plane that touches the earth at the airfield: within 30 km the error is below 0.1 %.
"""

import csv
import gzip
import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import airportsdata

RUNWAYS: Final = Path(__file__).with_name("runways.csv.gz")
"""Both thresholds of each runway, and the elevation, by ICAO code; its source and its day are in `runways.md`."""

NEAR_M: Final = 25_000.0
"""An airfield with runways is near a position up to this far from it: as far as an aircraft lines up to land."""

_METRES_PER_DEGREE: Final = 111_195.0
_FOOT_M: Final = 0.3048
_CELLS_PER_DEGREE: Final = 4
_NEAREST_TO_POLE: Final = 89.9
"""A latitude in degrees: meridians are no closer to each other than here, when squares are listed."""
_NEAR_WITHOUT_RUNWAYS_M: Final = 3_000.0
_APRON_M: Final = {"l": 1_600.0, "m": 1_000.0, "s": 700.0}
"""How far from a runway an aircraft still stands or taxies on a large, medium or small airport (OurAirports' types)."""
_APRON_WITHOUT_RUNWAYS_M: Final = 800.0
_SAME_WITHIN_M: Final = 1_100.0
"""A runway whose airport's code is unknown belongs to a known airport whose reference point is this near to it."""
_LATITUDES_NEARBY: Final = 0.1
"""Degrees: no runway is longer than half of this."""
_NO_AIRPLANES: Final = ("heliport", "helipad", "helistop", "hospital", "seaplane", "balloonport")
"""An airport with one of these words in its name is no place where airplanes land on wheels."""


class RunwayEnd(NamedTuple):
    """A runway in one direction of landing and take-off, in metres east and north of the airfield's centre."""

    x: float
    y: float
    """Of the threshold at which this direction begins."""
    east: float
    north: float
    """The unit vector along the runway."""
    length_m: float
    heading_deg: float

    def project(self, x: float, y: float) -> tuple[float, float]:
        """Return how far a point is along the direction, from the threshold on, and to the left of the centre line."""
        dx, dy = x - self.x, y - self.y
        return dx * self.east + dy * self.north, dy * self.east - dx * self.north


@dataclass(frozen=True, slots=True, eq=False)
class Airfield:
    """An airport as the detector sees it: where it is, how high, and where its runways are (none: not known)."""

    icao: str
    latitude: float
    longitude: float
    elevation_m: float
    apron_m: float
    """An aircraft on the ground this near to a runway (or, without runways, to the centre) is at this airfield."""
    ends: tuple[RunwayEnd, ...] = ()
    """Each runway twice, once for each direction."""
    _metres_east: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        metres = _METRES_PER_DEGREE * max(math.cos(math.radians(self.latitude)), 0.01)
        object.__setattr__(self, "_metres_east", metres)

    def locate(self, latitude: float, longitude: float) -> tuple[float, float]:
        """Return a position in metres east and north of the centre."""
        east = (longitude - self.longitude + 540.0) % 360.0 - 180.0
        return east * self._metres_east, (latitude - self.latitude) * _METRES_PER_DEGREE

    def measure_to_runway(self, latitude: float, longitude: float) -> float:
        """Return the distance in metres to the nearest runway; to the centre if the runways are not known."""
        x, y = self.locate(latitude, longitude)
        if not self.ends:
            return math.hypot(x, y)
        return min(_measure_to_segment(end, x, y) for end in self.ends[::2])


def _measure_to_segment(end: RunwayEnd, x: float, y: float) -> float:
    """Return the distance in metres from a point to a runway, as a line from threshold to threshold."""
    along, left = end.project(x, y)
    return math.hypot(left, max(-along, 0.0, along - end.length_m))


class _Cell(NamedTuple):
    """The airfields near any position within a square of a quarter of a degree."""

    airfields: tuple[Airfield, ...]
    highest_m: float
    """The elevation of the highest of them."""


class AirfieldIndex:
    """The airfields near a position, found by the square of latitude and longitude that the position is in."""

    def __init__(self, airfields: Iterable[Airfield]) -> None:
        cells: dict[tuple[int, int], list[Airfield]] = {}
        self._by_icao: dict[str, Airfield] = {}
        for airfield in airfields:
            self._by_icao[airfield.icao] = airfield
            reach = NEAR_M if airfield.ends else _NEAR_WITHOUT_RUNWAYS_M
            for key in _list_cells(airfield, reach):
                cells.setdefault(key, []).append(airfield)
        self._cells: Mapping[tuple[int, int], _Cell] = {
            key: _Cell(tuple(found), max(each.elevation_m for each in found)) for key, found in cells.items()
        }

    def find_airfield(self, icao: str) -> Airfield | None:
        """Return the airfield with an ICAO code; None if no airplane lands there, or the code is unknown."""
        return self._by_icao.get(icao)

    def find_near(self, latitude: float, longitude: float) -> tuple[Airfield, ...]:
        """Return all airfields near a position, and some that are a little too far; empty if there are none."""
        cell = self._cells.get(_compute_cell(latitude, longitude))
        return cell.airfields if cell is not None else ()

    def find_ceiling(self, latitude: float, longitude: float) -> float | None:
        """Return the elevation in metres of the highest airfield near a position; None if none is near."""
        cell = self._cells.get(_compute_cell(latitude, longitude))
        return cell.highest_m if cell is not None else None

    def find_on_ground(self, latitude: float, longitude: float) -> Airfield | None:
        """Return the airfield on whose ground a position is: the one with the nearest runway; None if on none.

        Airfields without known runways are found only where no other is.
        """
        best: tuple[bool, float] | None = None
        found = None
        for airfield in self.find_near(latitude, longitude):
            distance = airfield.measure_to_runway(latitude, longitude)
            rank = (not airfield.ends, distance)
            if distance <= airfield.apron_m and (best is None or rank < best):
                best, found = rank, airfield
        return found


def _compute_cell(latitude: float, longitude: float) -> tuple[int, int]:
    """Return the key of the square that a position is in."""
    return (
        int((latitude + 90.0) * _CELLS_PER_DEGREE),
        int((longitude + 180.0) * _CELLS_PER_DEGREE) % (360 * _CELLS_PER_DEGREE),
    )


def _list_cells(airfield: Airfield, reach_m: float) -> Iterator[tuple[int, int]]:
    """Yield the squares that have a position at most `reach_m` from an airfield's centre, and their neighbours."""
    row, column = _compute_cell(airfield.latitude, airfield.longitude)
    rows = math.ceil(reach_m / _METRES_PER_DEGREE * _CELLS_PER_DEGREE)
    cosine = math.cos(math.radians(min(abs(airfield.latitude) + 0.25, _NEAREST_TO_POLE)))
    columns = min(math.ceil(reach_m / (_METRES_PER_DEGREE * cosine) * _CELLS_PER_DEGREE), 180 * _CELLS_PER_DEGREE)
    for north in range(-rows, rows + 1):
        for east in range(-columns, columns + 1):
            yield row + north, (column + east) % (360 * _CELLS_PER_DEGREE)


def build_airfield(
    icao: str, elevation_m: float, size: str, thresholds: Iterable[tuple[float, float, float, float]]
) -> Airfield:
    """Build an airfield from the thresholds of its runways: latitude and longitude of one, then of the other.

    `size` is l, m or s, as in `runways.csv.gz`. A runway whose thresholds are at one place is left out; ValueError if
    none remains.
    """
    lines = [each for each in thresholds if each[:2] != each[2:]]
    if not lines:
        raise ValueError(f"{icao} has no runway with two thresholds")
    latitude = sum(each[0] + each[2] for each in lines) / (2 * len(lines))
    longitude = sum(each[1] + each[3] for each in lines) / (2 * len(lines))
    plane = Airfield(icao, latitude, longitude, elevation_m, 0.0)
    ends: list[RunwayEnd] = []
    for low_latitude, low_longitude, high_latitude, high_longitude in lines:
        low, high = plane.locate(low_latitude, low_longitude), plane.locate(high_latitude, high_longitude)
        ends += (_build_end(low, high), _build_end(high, low))
    return Airfield(icao, latitude, longitude, elevation_m, _APRON_M[size], tuple(ends))


def _build_end(begin: tuple[float, float], end: tuple[float, float]) -> RunwayEnd:
    """Return the direction from one threshold to the other, both in metres east and north of the centre."""
    dx, dy = end[0] - begin[0], end[1] - begin[1]
    length = math.hypot(dx, dy)
    return RunwayEnd(*begin, dx / length, dy / length, length, math.degrees(math.atan2(dx, dy)) % 360.0)


def read_runways(path: Path = RUNWAYS) -> list[Airfield]:
    """Return the airfields of a table of runways, one line a runway, in its order."""
    rows: dict[str, list[dict[str, str]]] = {}
    with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            rows.setdefault(row["airport"], []).append(row)
    return [
        build_airfield(
            icao,
            float(found[0]["elevation_ft"]) * _FOOT_M,
            found[0]["type"],
            [
                (float(each["le_lat"]), float(each["le_lon"]), float(each["he_lat"]), float(each["he_lon"]))
                for each in found
            ],
        )
        for icao, found in rows.items()
    ]


@cache
def load_airfields() -> AirfieldIndex:
    """Return the index of all airports of the world; the tables are read once per process.

    Airports of `airportsdata` whose runways we do not know are in it without runways, but heliports are not. Airports
    have the codes of `airportsdata`, which interests may name, even where OurAirports still has a former one.
    """
    known = {
        icao: Airfield(icao, row["lat"], row["lon"], float(row["elevation"]) * _FOOT_M, _APRON_WITHOUT_RUNWAYS_M)
        for icao, row in airportsdata.load("ICAO").items()
        if len(icao) == 4 and not any(word in row["name"].lower() for word in _NO_AIRPLANES)
    }
    airfields = name_as_known(read_runways(), known, frozenset(airportsdata.load("ICAO")))
    return AirfieldIndex({**known, **{each.icao: each for each in airfields}}.values())


def name_as_known(
    airfields: Collection[Airfield], known: Mapping[str, Airfield], codes: Collection[str]
) -> list[Airfield]:
    """Return the airfields, each whose code is none of `codes` with that of the known airport at the same place.

    An airport at whose place no other known one is keeps its code, and so do airfields whose code is in use.
    """
    taken = {each.icao for each in airfields}
    free = [each for icao, each in known.items() if icao not in taken]
    named = []
    for airfield in airfields:
        if airfield.icao not in codes:
            here = [
                (airfield.measure_to_runway(each.latitude, each.longitude), each.icao)
                for each in free
                if abs(each.latitude - airfield.latitude) < _LATITUDES_NEARBY and each.icao not in taken
            ]
            distance, icao = min(here, default=(math.inf, ""))
            if distance <= _SAME_WITHIN_M:
                taken.add(icao)
                named.append(replace(airfield, icao=icao))
                continue
        named.append(airfield)
    return named
