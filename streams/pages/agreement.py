"""How well what was seen live agrees with the night's record at an airport, as the airport's page shows it."""

from dataclasses import dataclass
from datetime import UTC, date
from typing import Final

from domain.interests import Direction
from streams.source_client import Unknown
from towerwatch.collection.v1.source_service_pb2 import DirectionAgreement, GetAgreementResponse
from towerwatch.flights.v1 import events_pb2 as flights_pb

SHOWN_DAYS: Final = 7

_DIRECTIONS: Final = {
    flights_pb.DIRECTION_DEPARTURES: Direction.DEPARTURES,
    flights_pb.DIRECTION_ARRIVALS: Direction.ARRIVALS,
}


@dataclass(frozen=True, slots=True)
class DayShown:
    """The agreement of one day (UTC) within the stretches of live coverage."""

    day: date
    recorded: int
    """Flights of the record."""
    live: int
    """Movements that were found live."""
    recall: float | None
    """Part of the record's flights that was found live. None: the record has none."""
    precision: float | None
    """Part of the live movements that the record has. None: there were none."""


@dataclass(frozen=True, slots=True)
class AgreementShown:
    """The agreement of one direction of an airport."""

    direction: Direction
    is_trusted: bool
    """False: live agreed so badly that levels are judged by the night's record alone."""
    days: tuple[DayShown, ...]
    """The last days that the record decided about, the newest first, at most SHOWN_DAYS."""


@dataclass(frozen=True, slots=True)
class AirportAgreement:
    """The agreement of an airport, or the reason why it is not known."""

    directions: tuple[AgreementShown, ...] = ()
    """Departures, then arrivals; a direction without days is left out."""
    unknown: str | None = None
    """Why nothing is known, as the end of a sentence; None: it is known."""


NOTHING_AGREED: Final = AirportAgreement()
"""Nothing was ever live."""


def build_agreement(answer: GetAgreementResponse | Unknown) -> AirportAgreement:
    """Build the agreement of an airport from the collector's answer."""
    if isinstance(answer, Unknown):
        return AirportAgreement(unknown=answer.reason)
    found = {each.direction: each for each in answer.directions if each.days or not each.is_trusted}
    return AirportAgreement(
        tuple(_build_direction(direction, found[key]) for key, direction in _DIRECTIONS.items() if key in found)
    )


def _build_direction(direction: Direction, message: DirectionAgreement) -> AgreementShown:
    """Build, from the collector's message, what the page shows of the agreement of one direction."""
    return AgreementShown(
        direction,
        message.is_trusted,
        tuple(
            DayShown(
                day=each.day.ToDatetime(UTC).date(),
                recorded=each.recorded,
                live=each.live,
                recall=round(each.matched / each.recorded, 3) if each.recorded else None,
                precision=round(each.matched / each.live, 3) if each.live else None,
            )
            for each in message.days[:SHOWN_DAYS]
        ),
    )
