"""The airports that are wanted live: those with interests, where they are, how high, and in which directions."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from collector.live.airfields import NEAR_M, Airfield, AirfieldIndex
from collector.live.region_planner import WantedAirport
from collector.model import InterestRow
from domain.airports import find_airport
from domain.interests import Direction

ROOM_KM: Final = NEAR_M / 1_000 + 5.0
"""Kilometres around an airport in which the detector must see aircraft: where it looks at them, and some more, because
an aircraft crosses 5 km between two polls."""

Target = tuple[str, Direction]
"""An airport's ICAO code, and arrivals or departures."""


@dataclass(frozen=True, slots=True)
class WantedAirports:
    """The airports with interests that can be watched live, and why the others cannot."""

    airports: tuple[WantedAirport, ...]
    """Ordered by ICAO code."""
    targets: frozenset[Target]
    """What is published of them: the directions that somebody has an interest in."""
    airfields: Mapping[str, Airfield]
    """Their airfields, by ICAO code."""
    settled: Mapping[str, str]
    """By the ICAO code of each other airport with interests: why it is not live, in a sentence for its people."""

    @property
    def codes(self) -> frozenset[str]:
        """The ICAO codes of the airports that can be watched live."""
        return frozenset(self.airfields)


NOTHING_WANTED: Final = WantedAirports((), frozenset(), {}, {})


def load_wanted(session: Session, index: AirfieldIndex) -> WantedAirports:
    """Return the airports with interests, in the caller's transaction.

    An airport whose code is retired, or where no airplane lands on wheels, is settled: the detector finds nothing
    there, and must not say that nothing happened.
    """
    rows = session.execute(select(InterestRow.airport, InterestRow.direction).distinct())
    return build_wanted(((airport, Direction(direction)) for airport, direction in rows), load_people(session), index)


def load_people(session: Session) -> Mapping[str, Fraction]:
    """Return how many people watch each airport, by ICAO code: who watches n airports is 1/n of a person at each.

    So each person has the same say, however many interests and airports they have: a share as in
    `collector.settled.shares`.
    """
    watched = select(InterestRow.user_id, InterestRow.airport).distinct().subquery()
    numbers = select(watched.c.user_id, func.count().label("airports")).group_by(watched.c.user_id).subquery()
    rows = session.execute(
        select(watched.c.airport, numbers.c.airports, func.count())
        .join(numbers, watched.c.user_id == numbers.c.user_id)
        .group_by(watched.c.airport, numbers.c.airports)
    )
    people: dict[str, Fraction] = {}
    for airport, airports, count in rows:
        people[airport] = people.get(airport, Fraction()) + Fraction(count, airports)
    return people


def build_wanted(
    directions: Iterable[tuple[str, Direction]], people: Mapping[str, Fraction | int], index: AirfieldIndex
) -> WantedAirports:
    """Return the airports with interests.

    `directions`: the airports with the directions of their interests. `people`: how many people watch each of them, as
    `load_people` counts them.
    """
    targets = {(airport, part) for airport, direction in directions for part in direction.parts}
    found: dict[str, Airfield] = {}
    settled: dict[str, str] = {}
    for icao in sorted(people):
        airfield = index.find_airfield(icao) if find_airport(icao) is not None else None
        if airfield is None:
            settled[icao] = (
                f"{icao} is not watched live, since no runway of it is known; its flights come with the night's record."
            )
        else:
            found[icao] = airfield
    return WantedAirports(
        tuple(
            WantedAirport(icao, airfield.latitude, airfield.longitude, people[icao]) for icao, airfield in found.items()
        ),
        frozenset(target for target in targets if target[0] in found),
        found,
        settled,
    )
