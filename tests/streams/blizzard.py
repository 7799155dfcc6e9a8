"""Made-up traffic of three days like the blizzard of February 2013 in the north-east of the USA.

For the tests of the pages and for the pictures of the pages. The traffic is the same at every run.
"""

import math
import random
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from domain.interests import Direction, Interest
from domain.live_record import Provenance
from domain.traffic import Coverage, Observation
from domain.windows import HOUR_S, Window, seconds
from tests.domain.logs import BASE, an_interest
from tests.streams.events import Event, interest_set, observed

END: Final = BASE + timedelta(days=3)
"""End of the coverage of all airports, except for gaps and directions that are never covered."""

NOW: Final = END + timedelta(hours=2, minutes=20)
"""Time of the workers' clock at their start."""

CLOCK: Final = {"CLOCK_START": NOW.isoformat()}
"""Settings of the workers."""

_USUAL: Final = {"KJFK": 21, "KBOS": 16, "KLGA": 18, "KEWR": 20, "EGLL": 34, "LICC": 5, "ZZZ9": 2}
"""By airport, flights in a busy hour in each direction."""

_SNOW: Final = {
    "KJFK": (BASE + timedelta(hours=20), BASE + timedelta(hours=41)),
    "KBOS": (BASE + timedelta(hours=18), BASE + timedelta(hours=54)),
    "KLGA": (BASE + timedelta(hours=20), BASE + timedelta(hours=38)),
    "KEWR": (BASE + timedelta(hours=21), BASE + timedelta(hours=39)),
}
"""By airport, the interval without flights."""

_GAPS: Final = {
    ("KEWR", Direction.ARRIVALS): (BASE + timedelta(hours=50), BASE + timedelta(hours=54)),
    ("KJFK", Direction.ARRIVALS): (BASE + timedelta(hours=7), BASE + timedelta(hours=9)),
    ("LICC", Direction.DEPARTURES): (BASE + timedelta(hours=52), BASE + timedelta(hours=53)),
}

LIVE_FROM: Final = {"LICC": BASE + timedelta(hours=48)}
"""By airport, from when on its flights are known from positions alone."""

_NEVER_COVERED: Final = {("ZZZ9", Direction.ARRIVALS)}

EXPLAINED: Final = UUID("5d2f0f2e-1b1a-4c55-9d5e-3f1f0a6d7c01")
"""The interest that a page explains: KJFK, more than 20 or fewer than 1 departures in an hour."""

_PEOPLE: Final = [UUID(int=0xA000 + number) for number in range(40)]


def build_interests() -> tuple[Interest, ...]:
    """Build the interests of many users, at most of the airports."""
    chance = random.Random(8)
    built = [_build_interest(EXPLAINED, "KJFK", high=20, low=1)]
    kinds: list[tuple[str, int, dict[str, object]]] = [
        ("KJFK", 11, {"high": 20}),
        ("KJFK", 4, {"high": 24, "for_windows": 2}),
        ("KJFK", 6, {"direction": Direction.ARRIVALS, "high": 22, "low": 2}),
        ("KJFK", 3, {"direction": Direction.BOTH, "window": Window.SIX_HOURS, "high": None, "low": 40}),
        ("KJFK", 2, {"window": Window.ONE_DAY, "high": None, "low": 150}),
        ("KBOS", 7, {"direction": Direction.ARRIVALS, "window": Window.ONE_DAY, "high": None, "low": 150}),
        ("KBOS", 2, {"high": None, "low": 1, "for_windows": 6}),
        ("KLGA", 5, {"direction": Direction.BOTH, "window": Window.SIX_HOURS, "high": None, "low": 20}),
        ("KEWR", 3, {"high": 22, "low": 1}),
        ("EGLL", 9, {"high": 60, "low": 5}),
        ("LICC", 1, {"direction": Direction.ARRIVALS, "high": None, "low": 1, "for_windows": 3}),
        ("KSFO", 1, {"high": 40}),
    ]
    for airport, people, changes in kinds:
        ids = [UUID(int=chance.getrandbits(128), version=4) for _ in range(people)]
        built += [_build_interest(interest_id, airport, **changes) for interest_id in ids]
    return tuple(built)


def _build_interest(interest_id: UUID, airport: str, **changes: object) -> Interest:
    """Build an interest of one of the users, chosen by the interest's id."""
    user = _PEOPLE[interest_id.int % len(_PEOPLE)]
    return an_interest(**({"interest_id": interest_id, "user_id": user, "airport": airport} | changes))


def build_observations() -> dict[str, list[Observation]]:
    """Build the observations of each airport."""
    chance = random.Random(2013)
    return {
        airport: [
            seen
            for begin in range(seconds(BASE), seconds(END), 6 * HOUR_S)
            for direction in (Direction.ARRIVALS, Direction.DEPARTURES)
            for seen in _build_six_hours(chance, airport, direction, begin)
        ]
        for airport in _USUAL
    }


def build_events() -> list[Event]:
    """Build all events, in an order in which they may be published."""
    events = [interest_set(each, number + 1) for number, each in enumerate(build_interests())]
    for airport, log in build_observations().items():
        events += [observed(airport, number + 1, seen) for number, seen in enumerate(log)]
    return events


def build_extra_hour(airport: str, flights: int, hour: int = 0) -> Event:
    """Build a batch of all departures of one hour, evenly spread; `hour`: hours after END."""
    begin = seconds(END) + hour * HOUR_S
    times = tuple(begin + index * HOUR_S // max(flights, 1) for index in range(flights))
    seen = Observation(Direction.DEPARTURES, begin, begin + HOUR_S, times, Coverage.COMPLETE)
    return observed(airport, 10_000 + hour, seen)


def _build_six_hours(chance: random.Random, airport: str, direction: Direction, begin: int) -> list[Observation]:
    """Build the observations of six hours: one, or several around a gap."""
    end = begin + 6 * HOUR_S
    times = tuple(
        sorted(
            at
            for hour in range(begin, end, HOUR_S)
            for at in (chance.randrange(hour, hour + HOUR_S) for _ in range(_choose_flights(chance, airport, hour)))
        )
    )
    if (airport, direction) in _NEVER_COVERED:
        return [Observation(direction, begin, end, times, Coverage.PARTIAL)]
    gap = _GAPS.get((airport, direction))
    intervals = [(begin, end, Coverage.COMPLETE)]
    if gap is not None and begin < seconds(gap[1]) and seconds(gap[0]) < end:
        gap_begin, gap_end = max(seconds(gap[0]), begin), min(seconds(gap[1]), end)
        intervals = [
            (begin, gap_begin, Coverage.COMPLETE),
            (gap_begin, gap_end, Coverage.GAP),
            (gap_end, end, Coverage.COMPLETE),
        ]
    is_live = airport in LIVE_FROM and begin >= seconds(LIVE_FROM[airport])
    return [
        Observation(
            direction,
            start,
            stop,
            () if kind is Coverage.GAP else tuple(at for at in times if start <= at < stop),
            kind,
            provenance=Provenance.LIVE if is_live else Provenance.SETTLED,
        )
        for start, stop, kind in intervals
        if start < stop
    ]


def _choose_flights(chance: random.Random, airport: str, hour: int) -> int:
    """Choose the flights of an hour: many by day, few at night, none in the snow, more than usual right after it."""
    usual = _USUAL[airport]
    at = BASE + timedelta(seconds=hour - seconds(BASE))
    snow = _SNOW.get(airport)
    if snow is not None and snow[0] <= at < snow[1]:
        return 0
    local = (at.hour - (0 if airport in ("EGLL", "LICC", "ZZZ9") else 5)) % 24
    share = max(math.sin((local - 5) / 18 * math.pi), 0.0) ** 0.7 if 5 <= local <= 23 else 0.04
    rush = 1.35 if snow is not None and _just_after(snow[1], at) else 1.0
    return max(round(usual * share * rush + chance.uniform(-1.5, 1.5)), 1 if usual > 10 else 0)


def _just_after(end: datetime, at: datetime) -> bool:
    return end <= at < end + timedelta(hours=5)
