"""The coverage, flights and live movements that are published again to a lost log, as loaded from the database.

Each function runs in the caller's transaction.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from collector.intervals import DAY, day_of
from collector.model import (
    OUTBOX,
    CoverageRow,
    FlightRow,
    LiveCoverageRow,
    LiveMovementRow,
    LiveOutcome,
)
from collector.settled.history_days import HistoryDayRow
from collector.settled.reconciliation import MATCHED_WITHIN
from collector.sources.flight import Flight, PublishedFlight
from domain.interests import Direction
from towerwatch.flights.v1 import events_pb2 as flights_pb
from towerwatch.topics import FLIGHTS_OBSERVED

REPUBLISHED_DAYS: Final = 42
"""Days before the end of coverage that are published again; the judgement needs the last 41."""

Target = tuple[str, Direction]
"""An airport and a direction, never both."""
Stretch = tuple[datetime, datetime]
"""A stretch [begin, end) of live coverage that was published."""


@dataclass(frozen=True, slots=True)
class HistoryStretch:
    """A stretch [begin, end) that was published as history: its flights count for what is usual and are not judged."""

    begin: datetime
    end: datetime
    known_at: datetime | None = None
    """The end of all coverage when it was published. None: not noted, it was known before what follows it."""


@dataclass(frozen=True, slots=True)
class RetainedCoverage:
    """The covered range of one airport and direction, and up to where it was told."""

    airport: str
    direction: Direction
    covered_from: datetime
    """The begin of the settled coverage; `covered_until` is equal if there is none."""
    covered_until: datetime
    told_until: datetime | None
    """None: nothing of the settled coverage was told."""
    live: tuple[Stretch, ...] = ()
    """The stretches of live coverage, in order."""
    untold_live_from: datetime | None = None
    """Begin of the live coverage that was still in the outbox when the log was lost. None: there was none."""
    history: tuple[HistoryStretch, ...] = ()
    """The stretches that were published as history, and covered days from before a gap, in order; the settled coverage
    may hold them."""

    def find_begin(self) -> datetime:
        """Return the instant from which the target is published again: REPUBLISHED_DAYS before its end, or later."""
        begin = min(
            [self.covered_from, *(begin for begin, _ in self.live), *(stretch.begin for stretch in self.history)]
        )
        end = max([self.covered_until, *(end for _, end in self.live)])
        return max(begin, day_of(end - REPUBLISHED_DAYS * DAY))

    def list_settled(self) -> list[Stretch]:
        """Return the stretches of the settled coverage from `find_begin` on that are no history, in order."""
        begin = min(max(self.find_begin(), self.covered_from), self.covered_until)
        return cut_out((begin, self.covered_until), [(each.begin, each.end) for each in self.history])

    def list_history(self) -> list[HistoryStretch]:
        """Return the stretches of history from `find_begin` on, in order."""
        begin = self.find_begin()
        return [replace(each, begin=max(each.begin, begin)) for each in self.history if each.end > begin]


def cut_out(stretch: Stretch, others: Iterable[Stretch]) -> list[Stretch]:
    """Return the parts of a stretch that lie in none of some others, which are in order and do not overlap."""
    left, (begin, end) = [], stretch
    for other_begin, other_end in others:
        left.append((begin, min(other_begin, end)))
        begin = max(begin, other_end)
    return [each for each in (*left, (begin, end)) if each[0] < each[1]]


@dataclass(frozen=True, slots=True)
class RetainedFlight:
    """A stored flight, its event time as first published, and whether what follows from it was told."""

    flight: Flight
    event_time: datetime
    was_told: bool
    is_retracted: bool = False
    """True if it was told, and was taken back with a day that was not told yet."""

    @property
    def identity(self) -> PublishedFlight:
        """Return that by which the stream knows the flight."""
        return PublishedFlight(self.flight.icao24, self.event_time)


@dataclass(slots=True)
class UnpublishedLive:
    """The live movements and live coverage that were still in the outbox when the log was lost."""

    flights: set[tuple[Target, PublishedFlight]] = field(default_factory=set)
    covered_from: dict[Target, datetime] = field(default_factory=dict)
    """By target, the begin of the earliest coverage."""


def load_unpublished_live(session: Session) -> UnpublishedLive:
    """Read the live movements and the live coverage in the outbox; to be called before they are withdrawn."""
    found = UnpublishedLive()
    for value in session.scalars(select(OUTBOX.rows.c.value).where(OUTBOX.rows.c.topic == FLIGHTS_OBSERVED.name)):
        event = flights_pb.FlightsObserved.FromString(value)
        if event.provenance != flights_pb.PROVENANCE_LIVE:
            continue
        direction = Direction(flights_pb.Direction.Name(event.direction).removeprefix("DIRECTION_").lower())
        target, is_departure = (event.airport, direction), direction is Direction.DEPARTURES
        for flight in event.flights:
            at = flight.first_seen if is_departure else flight.last_seen
            found.flights.add((target, PublishedFlight(flight.icao24, at.ToDatetime(UTC))))
        if event.coverage == flights_pb.COVERAGE_COMPLETE:
            begin = event.begin.ToDatetime(UTC)
            found.covered_from[target] = min(begin, found.covered_from.get(target, begin))
    return found


def load_targets(session: Session, unpublished: UnpublishedLive) -> list[RetainedCoverage]:
    """Load every airport and direction with settled or live coverage, or with live movements, in order."""
    stretches: defaultdict[Target, list[Stretch]] = defaultdict(list)
    for each in session.scalars(
        select(LiveCoverageRow).where(LiveCoverageRow.published).order_by(LiveCoverageRow.begin_at)
    ):
        stretches[each.airport, Direction(each.direction)].append((each.begin_at, each.end_at))
    settled = {(row.airport, Direction(row.direction)): row for row in session.scalars(select(CoverageRow))}
    begins = {target: found[0][0] for target, found in stretches.items()}
    for target, begin in _load_first_movements(session).items():
        begins[target] = min(begin, begins.get(target, begin))
    history = _load_history(session)
    targets = []
    for target in sorted({*settled, *begins}):
        live, untold_from = tuple(stretches[target]), unpublished.covered_from.get(target)
        if target in settled:
            row = settled[target]
            begin, end, told_until = row.covered_from, row.covered_until, row.told_until
        else:
            begin, end, told_until = begins[target], begins[target], None
        targets.append(RetainedCoverage(*target, begin, end, told_until, live, untold_from, tuple(history[target])))
    return targets


def _load_history(session: Session) -> defaultdict[Target, list[HistoryStretch]]:
    """Return the days that were published as history, and those covered before a gap, by target, in order."""
    query = select(HistoryDayRow).where(HistoryDayRow.covered).order_by(HistoryDayRow.day)
    days: defaultdict[Target, list[HistoryStretch]] = defaultdict(list)
    for row in session.scalars(query):
        stretch = HistoryStretch(row.day, row.judged_from or row.day + DAY, row.known_at)
        days[row.airport, Direction(row.direction)].append(stretch)
    return days


def load_flights(
    session: Session, target: RetainedCoverage, told_flight_id: int, unpublished: UnpublishedLive
) -> list[RetainedFlight]:
    """Load the flights of a target from its republished begin on, in the order of their event times.

    These are the stored flights, the live movements that the record has not decided about, and those that were taken
    back with a day that was not told. What was live was told unless it is in the outbox.
    """
    movements = list(_load_movements(session, target))
    key = target.airport, target.direction
    untold = {identity for found, identity in unpublished.flights if found == key}
    told_live = {identity for identity, outcome in movements if outcome is LiveOutcome.MATCHED} - untold
    flights = list(_load_stored_flights(session, target, told_flight_id, told_live))
    for identity, outcome in movements:
        is_open, was_told = outcome is LiveOutcome.PUBLISHED, identity not in untold
        is_retracted = (
            outcome is LiveOutcome.RETRACTED and was_told and _was_retracted_untold(target, identity.event_time)
        )
        if is_open or is_retracted:
            seen = _build_flight(target.direction, identity.icao24, "", identity.event_time, identity.event_time, "")
            flights.append(RetainedFlight(seen, identity.event_time, was_told, is_retracted))
    return sorted(flights, key=lambda each: each.event_time)


def _was_retracted_untold(target: RetainedCoverage, event_time: datetime) -> bool:
    """Return True if the day whose record took a movement back was not told, False if it was.

    The record of a day decides about the time up to MATCHED_WITHIN before the day's end.
    """
    told_until = target.told_until or target.covered_from
    return told_until < target.covered_until and told_until - MATCHED_WITHIN <= event_time < target.covered_until


def _load_first_movements(session: Session) -> Mapping[Target, datetime]:
    """Return the event time of the first live movement that is not decided, by target."""
    rows = session.execute(
        select(LiveMovementRow.airport, LiveMovementRow.direction, func.min(LiveMovementRow.event_time))
        .where(LiveMovementRow.outcome == LiveOutcome.PUBLISHED.value)
        .group_by(LiveMovementRow.airport, LiveMovementRow.direction)
    )
    return {(airport, Direction(direction)): first for airport, direction, first in rows}


def _load_movements(session: Session, target: RetainedCoverage) -> Iterator[tuple[PublishedFlight, LiveOutcome]]:
    """Yield the live movements of a target from its republished begin on, each with its outcome."""
    rows = session.execute(
        select(LiveMovementRow.icao24, LiveMovementRow.event_time, LiveMovementRow.outcome).where(
            LiveMovementRow.airport == target.airport,
            LiveMovementRow.direction == target.direction.value,
            LiveMovementRow.event_time >= target.find_begin(),
        )
    )
    for icao24, event_time, outcome in rows:
        yield PublishedFlight(icao24, event_time), LiveOutcome(outcome)


def _load_stored_flights(
    session: Session, target: RetainedCoverage, told_flight_id: int, told_live: set[PublishedFlight]
) -> Iterator[RetainedFlight]:
    """Yield the stored flights of a target from its republished begin on, in the order of their event times.

    Flights up to the id `told_flight_id` were told, and those that were told live.
    """
    rows = session.execute(
        select(
            FlightRow.id,
            FlightRow.icao24,
            FlightRow.callsign,
            FlightRow.first_seen,
            FlightRow.last_seen,
            FlightRow.event_time,
            FlightRow.other_airport,
        )
        .where(
            FlightRow.airport == target.airport,
            FlightRow.direction == target.direction.value,
            FlightRow.event_time >= target.find_begin(),
        )
        .order_by(FlightRow.event_time, FlightRow.id)
    )
    is_departure = target.direction is Direction.DEPARTURES
    for row in rows:
        # A flight counts at the time that was published first, whatever the source says now.
        flight = _build_flight(
            target.direction,
            row.icao24,
            row.callsign,
            row.event_time if is_departure else row.first_seen,
            row.last_seen if is_departure else row.event_time,
            row.other_airport,
        )
        was_told = row.id <= told_flight_id or PublishedFlight(row.icao24, row.event_time) in told_live
        yield RetainedFlight(flight, row.event_time, was_told)


def _build_flight(
    direction: Direction, icao24: str, callsign: str, first_seen: datetime, last_seen: datetime, other_airport: str
) -> Flight:
    """Return a flight from stored values, which are not validated again."""
    is_departure = direction is Direction.DEPARTURES
    return Flight.model_construct(
        icao24=icao24,
        callsign=callsign,
        first_seen=first_seen,
        last_seen=last_seen,
        departure_airport="" if is_departure else other_airport,
        arrival_airport=other_airport if is_departure else "",
    )
