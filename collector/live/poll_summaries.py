"""How well a poll hears the sky of each airport: fresh positions around it, and those near its ground. Pure.

A poll of the whole world has 12,000 aircraft, and a thousand airports may be wanted: so airports are found by the
square of latitude and longitude that a position is in.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from collector.live.airfields import Airfield
from collector.live.wanted import ROOM_KM
from collector.sources.state_vector import Poll, StateVector

OLDEST_FRESH_S: Final = 60.0
"""A position that is older than this at the poll shows nothing: sources repeat positions of aircraft that are gone."""
LOW_M: Final = 305.0
"""1,000 ft: an aircraft that is lower above the airport is near its ground. By the barometer, so off by up to 150 m."""
NEAR_KM: Final = 10.0
"""Kilometres from an airport within which a low aircraft counts as near it: on a glide of 3 degrees it is that low at
6 km."""

_METRES_PER_DEGREE: Final = 111_195.0
_CELLS_PER_DEGREE: Final = 2


class Hearing(NamedTuple):
    """The numbers of positions that one poll has of an airport's sky."""

    fresh_positions: int
    """Aircraft around the airport with a fresh position."""
    low_positions: int
    """Those of them that are near the airport and near the ground."""


class AirportGrid:
    """The airports whose sky a position is in."""

    def __init__(self, airfields: Iterable[Airfield]) -> None:
        cells: dict[tuple[int, int], list[Airfield]] = {}
        for airfield in airfields:
            for cell in _list_cells(airfield):
                cells.setdefault(cell, []).append(airfield)
        self._cells = {cell: tuple(found) for cell, found in cells.items()}

    def measure_hearing(self, poll: Poll) -> dict[str, Hearing]:
        """Return by ICAO code what a poll hears of each airport; an airport of which it hears nothing is left out.

        A position belongs to all airports whose room it is in, as far as squares of half a degree tell.
        """
        fresh: dict[str, int] = {}
        low: dict[str, int] = {}
        earliest, cells = poll.time - OLDEST_FRESH_S, self._cells
        for state in poll.states:
            position = state.position
            if position is None or position.time < earliest:
                continue
            for airfield in cells.get(_compute_cell(position.latitude, position.longitude), ()):
                fresh[airfield.icao] = fresh.get(airfield.icao, 0) + 1
                if _is_low(state, airfield) and _is_near(state, airfield):
                    low[airfield.icao] = low.get(airfield.icao, 0) + 1
        return {icao: Hearing(number, low.get(icao, 0)) for icao, number in fresh.items()}


def _is_low(state: StateVector, airfield: Airfield) -> bool:
    """Return True if an aircraft is near the ground of an airfield, by its height alone; else False.

    Where the runways are not known, movements are found only from the ground: there only the ground counts.
    """
    if state.on_ground:
        return True
    altitude = state.baro_altitude_m if state.baro_altitude_m is not None else state.geo_altitude_m
    return bool(airfield.ends) and altitude is not None and altitude <= airfield.elevation_m + LOW_M


def _is_near(state: StateVector, airfield: Airfield) -> bool:
    """Return True if an aircraft is at most NEAR_KM from an airfield, else False."""
    if state.position is None:
        return False
    return math.hypot(*airfield.locate(state.position.latitude, state.position.longitude)) <= NEAR_KM * 1_000


def _compute_cell(latitude: float, longitude: float) -> tuple[int, int]:
    """Return the key of the square that a position is in."""
    return (
        int((latitude + 90.0) * _CELLS_PER_DEGREE),
        int((longitude + 180.0) * _CELLS_PER_DEGREE) % (360 * _CELLS_PER_DEGREE),
    )


def _list_cells(airfield: Airfield) -> Iterator[tuple[int, int]]:
    """Yield the squares that have a position in an airfield's room, each once."""
    rows = range(
        _compute_cell(airfield.latitude - ROOM_KM * 1_000 / _METRES_PER_DEGREE, 0.0)[0],
        _compute_cell(airfield.latitude + ROOM_KM * 1_000 / _METRES_PER_DEGREE, 0.0)[0] + 1,
    )
    cosine = max(math.cos(math.radians(min(abs(airfield.latitude) + 0.5, 89.0))), 0.02)
    reach = ROOM_KM * 1_000 / (_METRES_PER_DEGREE * cosine)
    first = math.floor((airfield.longitude + 180.0 - reach) * _CELLS_PER_DEGREE)
    last = math.floor((airfield.longitude + 180.0 + reach) * _CELLS_PER_DEGREE)
    columns = {column % (360 * _CELLS_PER_DEGREE) for column in range(first, last + 1)}
    yield from ((row, column) for row in rows for column in sorted(columns))
