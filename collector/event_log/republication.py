"""The republication: all interests and the retained flights are published again to a log that knows nothing of them.

What was told is published first, as past: the stream folds it and raises nothing, so that it knows the breaches that go
on. Behind a barrier of the outbox comes what was not told yet, as when it was new: its alerts are raised. The stream
must have read the first part before the second is published, because interests and flights are two topics that may
overtake each other. Everything that happens meanwhile is added behind the barrier, too.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from chassis.db.outbox import OutboxMessage
from collector.intervals import DAY, Interval, day_of, split_by_days
from collector.messages import (
    encode_flights_observed,
    encode_interest_removal,
    encode_interest_set,
    encode_new_beginning,
    encode_partial_flights,
)
from collector.model import OUTBOX, CoverageRow, FlightRow, InterestRow, LeadershipRow
from collector.sources.flight import Flight
from domain.interests import Direction
from towerwatch.topics import FLIGHTS_OBSERVED

REPUBLISHED_DAYS: Final = 42
"""Days before the end of coverage that are published again; the judgement needs the last 41."""

_LONGEST_EARLY: Final = 7 * DAY
"""The longest interval of a batch; flights never come earlier than their coverage by as much."""


@dataclass(frozen=True, slots=True)
class RetainedCoverage:
    """The covered range of one airport and direction, and up to where it was told."""

    airport: str
    direction: Direction
    covered_from: datetime
    covered_until: datetime
    told_until: datetime | None
    """None: nothing was told."""


@dataclass(frozen=True, slots=True)
class RetainedFlight:
    """A stored flight, its event time as first published, and whether what follows from it was told."""

    flight: Flight
    event_time: datetime
    was_told: bool


def republish(session: Session, told_flight_id: int) -> None:
    """Add everything that the stream must know to the outbox, in place of the flights that are in the outbox now.

    First all that was told, as past; then a barrier; then all that was not told. Interests that were not told are first
    removed, so that setting them after the barrier has their alerts. The leader's lock keeps collectors from storing
    flights meanwhile. Flights up to the id `told_flight_id` were told.
    """
    session.execute(select(LeadershipRow).with_for_update()).all()
    OUTBOX.withdraw(session, FLIGHTS_OBSERVED.name)
    OUTBOX.remove_barriers(session)
    targets = [
        RetainedCoverage(row.airport, Direction(row.direction), row.covered_from, row.covered_until, row.told_until)
        for row in session.scalars(select(CoverageRow).order_by(CoverageRow.airport, CoverageRow.direction))
    ]
    for target in targets:
        OUTBOX.add(session, encode_told(target, _load_flights(session, target, told_flight_id)))
    rows = session.scalars(select(InterestRow).order_by(InterestRow.interest_id).with_for_update()).all()
    told = {row.interest_id for row in rows if row.told_version == row.version}
    OUTBOX.add(
        session,
        [
            encode_interest_set(row.value(), past=True)
            if row.interest_id in told
            else encode_interest_removal(row.value())
            for row in rows
        ],
    )
    OUTBOX.add_barrier(session)
    for target in targets:
        OUTBOX.add(session, encode_untold(target, _load_flights(session, target, told_flight_id)))
    OUTBOX.add(session, [encode_interest_set(row.value()) for row in rows if row.interest_id not in told])


def encode_told(target: RetainedCoverage, flights: list[RetainedFlight]) -> Iterator[OutboxMessage]:
    """Yield the events of what was told of a target, as past: a new beginning, its days, and what came early.

    `flights`: its flights in the order of their event times; those that were not told are ignored.
    """
    begin = _find_begin(target)
    yield encode_new_beginning(target.airport, target.direction, begin, begin + DAY)
    told = [each for each in flights if each.was_told]
    until = max(begin, target.told_until or begin)
    yield from _encode_days(target, begin, until, told, past=True)
    yield from _encode_early(target, until, told, past=True)


def encode_untold(target: RetainedCoverage, flights: list[RetainedFlight]) -> Iterator[OutboxMessage]:
    """Yield the events of what was not told of a target yet: late flights of told days, days, and what came early.

    `flights`: its flights in the order of their event times; those that were told are ignored.
    """
    begin = _find_begin(target)
    untold = [each for each in flights if not each.was_told]
    told_until = max(begin, target.told_until or begin)
    for interval in split_by_days(target.airport, target.direction, begin, told_until):
        if late := _select(untold, interval.begin, interval.end):
            yield from encode_flights_observed(
                target.airport, target.direction, interval.begin, interval.end, late, covered_from=begin
            )
    yield from _encode_days(target, told_until, target.covered_until, untold, past=False)
    yield from _encode_early(target, max(told_until, target.covered_until), untold, past=False)


def _find_begin(target: RetainedCoverage) -> datetime:
    """Return where the republished coverage of a target begins: REPUBLISHED_DAYS before its end, or later."""
    return max(target.covered_from, day_of(target.covered_until - REPUBLISHED_DAYS * DAY))


def _encode_days(
    target: RetainedCoverage, begin: datetime, end: datetime, flights: list[RetainedFlight], past: bool
) -> Iterator[OutboxMessage]:
    """Yield the events of [begin, end), a UTC day after the other, each with its flights and its coverage."""
    by_day = {
        day: [each for each in group if begin <= each.event_time < end]
        for day, group in groupby(flights, lambda each: day_of(each.event_time))
    }
    for interval in split_by_days(target.airport, target.direction, begin, end):
        of_day = [each.flight for each in by_day.get(day_of(interval.begin), ())]
        yield from encode_flights_observed(
            target.airport, target.direction, interval.begin, interval.end, of_day, past, _find_begin(target)
        )


def _encode_early(
    target: RetainedCoverage, begin: datetime, flights: list[RetainedFlight], past: bool
) -> Iterator[OutboxMessage]:
    """Yield the events of flights that came before their time was covered: from `begin` on, as partial batches."""
    end = begin + _LONGEST_EARLY
    if early := _select(flights, begin, end):
        # Begins where coverage ends: a later begin would declare a gap.
        yield from encode_partial_flights(Interval(target.airport, target.direction, begin, end), early, past)


def _select(flights: list[RetainedFlight], begin: datetime, end: datetime) -> list[Flight]:
    """Return the flights with event times in [begin, end)."""
    return [each.flight for each in flights if begin <= each.event_time < end]


def _load_flights(session: Session, target: RetainedCoverage, told_flight_id: int) -> list[RetainedFlight]:
    """Load the flights of a target from its republished begin on, in the order of their event times."""
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
            FlightRow.event_time >= _find_begin(target),
        )
        .order_by(FlightRow.event_time, FlightRow.id)
    )
    is_departure = target.direction is Direction.DEPARTURES
    return [
        RetainedFlight(
            # Not validated again. A flight counts at the time that was published first, whatever the source says now.
            Flight.model_construct(
                icao24=row.icao24,
                callsign=row.callsign,
                first_seen=row.event_time if is_departure else row.first_seen,
                last_seen=row.last_seen if is_departure else row.event_time,
                departure_airport="" if is_departure else row.other_airport,
                arrival_airport=row.other_airport if is_departure else "",
            ),
            row.event_time,
            row.id <= told_flight_id,
        )
        for row in rows
    ]
