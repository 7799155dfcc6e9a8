"""Covers of airports by few boxes that cost one credit each: the rooms that airports need, and which share a box. Pure.

A box may have any shape, if its area is below 25 square degrees. So a set of airports fits into one box exactly if the
smallest box around all of their rooms does, and the cheapest cover is a partition of the airports into such sets.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from collector.sources.regions import KM_PER_DEGREE, Box

_POLE: Final = 9_000
_ROUND: Final = 36_000
"""Hundredths of a degree around the globe."""
_AREA_LIMIT: Final = 25 * 100 * 100
"""A box of one credit is smaller than this, in square hundredths of a degree: the source's own rounding then does not
matter."""
_MOST_NODES: Final = 5_000
"""Steps of the search for a cheaper cover: far more than some hundred airports need, which are settled by the first."""
_SEEDS: Final = 6


@dataclass(frozen=True, slots=True, order=True)
class Room:
    """A part of the globe between two parallels and two meridians, in hundredths of a degree; it may cross ±180°."""

    west: int
    """From −18,000 to 17,999."""
    south: int
    width: int
    """Eastward from `west`, from 1 to 36,000."""
    height: int

    def join(self, other: "Room") -> "Room":
        """Return the smallest room around both."""
        south = min(self.south, other.south)
        height = max(self.south + self.height, other.south + other.height) - south
        to_other = (other.west - self.west) % _ROUND
        from_self = max(self.width, to_other + other.width)
        from_other = max(other.width, (_ROUND - to_other) % _ROUND + self.width)
        if min(from_self, from_other) >= _ROUND:
            return Room(-_ROUND // 2, south, _ROUND, height)
        if (from_self, self.west) <= (from_other, other.west):
            return Room(self.west, south, from_self, height)
        return Room(other.west, south, from_other, height)

    def contains(self, other: "Room") -> bool:
        """Return True if another room lies in this one."""
        return self.join(other) == self or (self.width == _ROUND and self._spans(other))

    def _spans(self, other: "Room") -> bool:
        """Return True if another room lies between the parallels of this one."""
        return self.south <= other.south and other.south + other.height <= self.south + self.height

    def is_one_credit(self) -> bool:
        """Return True if the area is small enough for one credit, were the room not cut at ±180°."""
        return self.width * self.height < _AREA_LIMIT

    def list_boxes(self) -> tuple[Box, ...]:
        """Return the boxes that the room consists of: two if it crosses ±180°, else one."""
        north, half = self.south + self.height, _ROUND // 2
        east = self.west + self.width
        if east <= half:
            return (Box(self.south, self.west, north, east),)
        return Box(self.south, self.west, north, half), Box(self.south, -half, north, east - _ROUND)

    def compute_price(self) -> int:
        """Return the credits for one question about each of the room's boxes."""
        return sum(box.compute_price() for box in self.list_boxes())


def compute_room(latitude: float, longitude: float, radius_km: float) -> Room:
    """Return the smallest room that has all points within `radius_km` of a position, rounded outward.

    Around a pole it is a cap of all longitudes. The half width of a circle of angle δ at latitude φ is
    asin(sin δ / cos φ), which is more than δ / cos φ.
    """
    delta = radius_km / KM_PER_DEGREE
    south = max(math.floor((latitude - delta) * 100), -_POLE)
    north = min(math.ceil((latitude + delta) * 100), _POLE)
    ratio = math.sin(math.radians(min(delta, 90.0))) / max(math.cos(math.radians(latitude)), 1e-9)
    if south == -_POLE or north == _POLE or ratio >= 1:
        return Room(-_ROUND // 2, south, _ROUND, north - south)
    half_width = math.degrees(math.asin(ratio))
    west, east = math.floor((longitude - half_width) * 100), math.ceil((longitude + half_width) * 100)
    if east - west >= _ROUND:
        return Room(-_ROUND // 2, south, _ROUND, north - south)
    return Room((west + _ROUND // 2) % _ROUND - _ROUND // 2, south, east - west, north - south)


def find_cover(rooms: Sequence[Room], most_credits: int) -> list[Room] | None:
    """Return the cheapest set of rooms that hold all of these and cost `most_credits` at most; None if there is none.

    Each has one credit's area, or is what a single room needs (near a pole that may be more). Of equally cheap covers
    the same one is returned whatever the order of the rooms.

    A depth-first search: each room in turn joins one of the sets so far, or begins a new one. With very many airports
    it ends early, and the cover may cost more than the cheapest, or not be found.
    """
    order = _order_rooms(set(rooms))
    best: list[Room] | None = None
    limit = most_credits
    waiting: list[tuple[int, list[Room], int]] = [(0, [], 0)]
    nodes = 0
    while waiting and nodes < _MOST_NODES:
        number, sets, price = waiting.pop()
        while number < len(order) and any(each.contains(order[number]) for each in sets):
            number += 1  # it costs nothing there
        if price > limit:
            continue
        if number == len(order):
            best, limit = sets, price - 1
            continue
        nodes += 1
        for cost, _, at, joined in sorted(_list_choices(order[number], sets, price), reverse=True):
            if cost <= limit:  # the last that is appended is tried next: the cheapest, and then the smallest
                waiting.append((number + 1, [*sets[:at], joined, *sets[at + 1 :]], cost))
    return None if best is None else sorted(best)


def _order_rooms(rooms: set[Room]) -> list[Room]:
    """Return the rooms in the order of a search: first up to _SEEDS that are far from each other, then west to east.

    The first need boxes of their own, so that a search that needs too many boxes fails early.
    """
    rest = sorted(rooms)
    order = rest[:1]
    distances = [_measure_gap(each, order[0]) for each in rest]
    for _ in range(min(_SEEDS, len(rest)) - 1):
        farthest = max(range(len(rest)), key=lambda number: distances[number])
        order.append(rest[farthest])
        distances = [min(known, _measure_gap(each, order[-1])) for known, each in zip(distances, rest, strict=True)]
    return [*dict.fromkeys([*order, *rest])]


def _measure_gap(one: Room, other: Room) -> int:
    """Return the area of the smallest room around both."""
    joined = one.join(other)
    return joined.width * joined.height


def _list_choices(room: Room, sets: Sequence[Room], price: int) -> list[tuple[int, int, int, Room]]:
    """Return each way to place a room in one of the sets or in a new one.

    As the price of all sets then, the area that is added, the set's number and its room.
    """
    choices = [(price + room.compute_price(), room.width * room.height, len(sets), room)]
    for at, each in enumerate(sets):
        joined = each.join(room)
        if joined.is_one_credit() or joined == room:  # the latter: a cap around a pole that holds the whole set
            cost = price - each.compute_price() + joined.compute_price()
            choices.append((cost, joined.width * joined.height - each.width * each.height, at, joined))
    return choices
