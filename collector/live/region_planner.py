"""The planner for positions: which airports are watched live, in which regions, and how often they are polled. Pure.

Why the rules are these: docs/adr/0039-regions.md.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

from collector.live.box_cover import Room, compute_room, find_cover
from collector.sources.regions import (
    KM_PER_NM,
    LARGEST_RADIUS_NM,
    WORLD,
    WORLD_PRICE,
    Box,
    Circle,
    World,
    find_midpoint,
    measure_distance_km,
)

SHORTEST_INTERVAL_S: Final = 10
LONGEST_INTERVAL_S: Final = 90
"""Seconds between two polls of a region that the detector still sees landings with."""
_EASY_INTERVAL_S: Final = 88
"""More regions than before are taken up, after they were given up, only if this interval can be paid: so that a few
credits more or less do not make airports live and settled by turns."""
_DAY_S: Final = 86_400
SMALLEST_LIVE_BUDGET: Final = _DAY_S // LONGEST_INTERVAL_S
"""Credits per day for one region at the longest interval."""
_MOST_CIRCLES: Final = LONGEST_INTERVAL_S
"""A host is asked once a second at most, so that no more regions have their turn within the longest interval."""
_MOST_CENTRES: Final = 40
"""Centres that are tried for a circle, by the priority of the airports that they come from."""

_SETTLED: Final = "its flights come with the night's record."
"""The end of a sentence that says why an airport is not live."""


@dataclass(frozen=True, slots=True)
class WantedAirport:
    """An airport with interests, and where it is (degrees)."""

    icao: str
    latitude: float
    longitude: float
    people: Fraction | int
    """The people who watch it, each by the share of one person that falls to it: a person who watches n airports is
    1/n of a person at each, however many interests they have there."""


@dataclass(frozen=True, slots=True)
class LiveCredits:
    """The credits for positions that are left of the UTC day, and the time that they must last."""

    per_day: int
    left: int
    """Credits left today."""
    seconds_left: float
    """Time until the next midnight in UTC, at which the bucket is filled anew."""
    since_poll_s: float | None = None
    """Seconds since the last round of polls; None: there was none that counts."""

    def find_interval(self, price: int) -> int | None:
        """Return the shortest interval, in whole seconds, at which rounds of this price last until midnight.

        From 10 to 90 s; None if the credits do not last at 90 s.
        """
        low, high = SHORTEST_INTERVAL_S, LONGEST_INTERVAL_S
        if not self._lasts(price, high):
            return None
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self._lasts(price, middle) else (middle + 1, high)
        return high

    def _lasts(self, price: int, interval_s: int) -> bool:
        """Return True if the credits last until midnight with one round of this price in each interval."""
        first = 0.0 if self.since_poll_s is None else max(interval_s - self.since_poll_s, 0.0)
        return max(math.ceil((self.seconds_left - first) / interval_s), 0) * price <= self.left


@dataclass(frozen=True, slots=True)
class PositionPlan:
    """Which airports are live, and which regions are polled for them in each round."""

    regions: tuple[Box | World, ...]
    price: int
    """Credits of one round: of one poll of each region."""
    interval_s: int
    """Seconds from one round to the next; 0 without regions."""
    live: frozenset[str]
    """The ICAO codes of the airports that are live."""
    settled: Mapping[str, str] = field(default_factory=dict)
    """By the ICAO code of each other airport: why it is not live, in a sentence for its people."""


def plan_positions(
    airports: Sequence[WantedAirport], quota: LiveCredits, room_km: float, before: PositionPlan | None = None
) -> PositionPlan:
    """Return the plan for OpenSky until it is made again: before each round, or when interests or credits change.

    All airports are live if they fit into boxes that the credits pay for at 90 s, or if the credits pay for the whole
    world, which is taken where it costs less. Else those with most people are, in this order (ties by ICAO code):
    one that fits into no region which can be paid is left out, and the next may fit into a box that is there anyway.

    `room_km`: the distance from an airport in which the detector must see aircraft. `before`: the plan until now, if
    any, whose live airports keep their place unless another has clearly more people.
    """
    if not airports:
        return PositionPlan((), 0, 0, frozenset())
    most = _find_most_credits(quota, before)
    rooms = {each.icao: compute_room(each.latitude, each.longitude, room_km) for each in airports}
    cover = find_cover(list(rooms.values()), min(most, WORLD_PRICE)) if most else None
    if cover is None and most >= WORLD_PRICE:
        return _build_plan((WORLD,), rooms, {}, quota)
    if cover is None:
        live, cover = _choose_live(airports, rooms, most, before)
    else:
        live = set(rooms)
    settled = {each.icao: _explain_settled(each, most, quota) for each in airports if each.icao not in live}
    regions = tuple(sorted(box for room in cover for box in room.list_boxes()))
    return _build_plan(regions, live, settled, quota)


def _find_most_credits(quota: LiveCredits, before: PositionPlan | None) -> int:
    """Return the most credits, up to the world's price, that a round may cost at 90 s, today and on every day.

    0 if there are too few for any region.
    """
    for price in range(min(WORLD_PRICE, quota.per_day // SMALLEST_LIVE_BUDGET), 0, -1):
        interval_s = quota.find_interval(price)
        is_more = before is not None and bool(before.settled) and price > before.price
        if interval_s is not None and not (is_more and interval_s > _EASY_INTERVAL_S):
            return price
    return 0


def _choose_live(
    airports: Sequence[WantedAirport], rooms: Mapping[str, Room], most: int, before: PositionPlan | None
) -> tuple[set[str], list[Room]]:
    """Return the airports that are live, and the cover of their rooms, if a round may cost `most` credits."""
    live: set[str] = set()
    cover: list[Room] = []
    kept = before.live if before is not None else frozenset()
    for each in sorted(airports, key=lambda airport: _rank_airport(airport, kept)):
        room = rooms[each.icao]
        if any(box.contains(room) for box in cover):
            live.add(each.icao)
        elif (found := find_cover([*(rooms[icao] for icao in live), room], most)) is not None:
            live.add(each.icao)
            cover = found
    return live, cover


def _rank_airport(airport: WantedAirport, kept: frozenset[str]) -> tuple[Fraction | int, str]:
    """Return a sort key: airports with more people come first, and those that are live count for some more.

    A live airport keeps its place unless another has more than a quarter and one person more. So one person, whose
    shares are one person at most in all, cannot move a region to and fro.
    """
    weight = 5 * airport.people + 4 if airport.icao in kept else 4 * airport.people
    return -weight, airport.icao


def _explain_settled(airport: WantedAirport, most: int, quota: LiveCredits) -> str:
    """Return why an airport is not live, in a sentence for its people."""
    if most == 0:
        return (
            f"{airport.icao} is not watched live, since the {quota.left} credits for positions that are left today do "
            f"not last until midnight (UTC) at a poll every {LONGEST_INTERVAL_S} s; {_SETTLED}"
        )
    regions = "one region" if most == 1 else f"{most} regions"
    return (
        f"{airport.icao} is not watched live, since the credits for positions last for {regions} of 5° by 5°, and "
        f"airports elsewhere that more people watch come first; {_SETTLED}"
    )


def _build_plan(
    regions: tuple[Box | World, ...],
    live: Mapping[str, Room] | set[str],
    settled: Mapping[str, str],
    quota: LiveCredits,
) -> PositionPlan:
    """Return the plan for regions whose price can be paid."""
    price = sum(region.compute_price() for region in regions)
    interval_s = quota.find_interval(price) if regions else None
    return PositionPlan(regions, price, interval_s or 0, frozenset(live), settled)


@dataclass(frozen=True, slots=True)
class CirclePlan:
    """Which airports are live by a service that takes regions around a point, and these regions."""

    regions: tuple[Circle, ...]
    interval_s: int
    """Seconds from one round to the next; 0 without regions."""
    live: frozenset[str]
    settled: Mapping[str, str] = field(default_factory=dict)
    """By the ICAO code of each other airport: why it is not live, in a sentence for its people."""


def plan_circles(airports: Sequence[WantedAirport], room_km: float) -> CirclePlan:
    """Return the regions of a service that is asked once a second at most, with one request for each region.

    The airport with most people (ties by ICAO code) that has no region yet gets one, which is laid so that many
    others have room in it. Airports that have no region within the longest interval are left to the night's record.
    Raises ValueError if not even one airport has room in the largest circle.
    """
    reach_km = (
        LARGEST_RADIUS_NM * KM_PER_NM - room_km - 2.0
    )  # less what rounding to nautical miles and hundredths takes
    if reach_km < 0:
        raise ValueError(f"a room of {room_km:g} km is larger than a region can be")
    rest = sorted(airports, key=lambda airport: _rank_airport(airport, frozenset()))
    circles: list[Circle] = []
    while rest and len(circles) < _MOST_CIRCLES:
        circle, inside = _lay_circle(rest, reach_km, room_km)
        circles.append(circle)
        rest = [each for each in rest if each.icao not in inside]
    settled = {
        each.icao: f"{each.icao} is not watched live, since one service is asked for {_MOST_CIRCLES} regions at most, "
        f"and airports elsewhere that more people watch come first; {_SETTLED}"
        for each in rest
    }
    live = frozenset(each.icao for each in airports) - settled.keys()
    interval_s = max(SHORTEST_INTERVAL_S, len(circles)) if circles else 0
    return CirclePlan(tuple(sorted(circles)), interval_s, live, settled)


def _lay_circle(airports: Sequence[WantedAirport], reach_km: float, room_km: float) -> tuple[Circle, frozenset[str]]:
    """Return the circle that has room for the first of the airports and for as many others as any that is tried.

    Also returns the ICAO codes of those airports. Tried are the first airport itself, and the points halfway to others.
    """
    first = airports[0]
    here = first.latitude, first.longitude
    near = [each for each in airports if measure_distance_km(*here, each.latitude, each.longitude) <= 2 * reach_km]
    centres = [here, *(find_midpoint(*here, each.latitude, each.longitude) for each in near[1:_MOST_CENTRES])]
    best: tuple[int, float, tuple[float, float], frozenset[str]] | None = None
    for centre in centres:
        centre = round(centre[0], 2), round(centre[1], 2)
        distances = {each.icao: measure_distance_km(*centre, each.latitude, each.longitude) for each in near}
        inside = {icao: distance for icao, distance in distances.items() if distance <= reach_km}
        if first.icao in inside:
            farthest = max(inside.values())
            if best is None or (-len(inside), farthest, centre) < best[:3]:
                best = -len(inside), farthest, centre, frozenset(inside)
    assert best is not None, "an airport has room in the circle around itself"  # noqa: S101 - `reach_km` is positive
    _, farthest, centre, found = best
    return Circle(*centre, math.ceil((farthest + room_km) / KM_PER_NM)), found
