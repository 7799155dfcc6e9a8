"""Queries for the planner: the airports and directions with interests, how far each is collected, what is recorded."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar
from uuid import UUID

from sqlalchemy import Select, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from collector.intervals import (
    DAY,
    compute_available_until,
    compute_next_begin,
    day_of,
    find_common_begin,
    find_due_correction,
    skip_missing_days,
)
from collector.model import CoverageRow, InterestRow, LastPollRow, UnheardRow
from collector.people import load_payments
from collector.settled.evidence import (
    JITTER,
    EvidenceCall,
    NightlyRecords,
    RecordTiming,
    choose_candidates,
    list_days,
    list_evidence_calls,
)
from collector.settled.failing_airports import FailingAirports
from collector.settled.planner import CollectionTarget
from collector.settled.record_store import load_records
from collector.settled.shares import NO_PAYMENTS, Payments
from domain.airports import find_airport
from domain.interests import Direction

ASK_AGAIN_AFTER: Final = timedelta(hours=6)
"""Time after which an interval whose answer is doubted (no flights at a busy airport) is asked for again."""

_Query = TypeVar("_Query", bound=Select[*tuple[Any, ...]])

_WISHES: Final = select(
    InterestRow.airport,
    InterestRow.direction,
    InterestRow.user_id,
    func.count(),
    func.min(InterestRow.effective_from),
    func.min(InterestRow.created_at),
).group_by(InterestRow.airport, InterestRow.direction, InterestRow.user_id)
_COVERAGE: Final = select(CoverageRow)
_UNHEARD: Final = select(UnheardRow)
_LAST_POLLS: Final = select(LastPollRow)
_COVERED_CURSORS: Final = select(CoverageRow.airport, CoverageRow.direction, CoverageRow.covered_until)
_UNHEARD_CURSORS: Final = select(UnheardRow.airport, UnheardRow.direction, UnheardRow.asked_until)


@dataclass(frozen=True, slots=True)
class CollectionTiming:
    """The settings that decide when an interval is due."""

    record: RecordTiming
    poll_interval: timedelta
    """Time between two scheduled collections, on the service's clock."""
    corrections_after: timedelta
    """Time after the end of a day at which that day is collected a second time; 0: never."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Every airport and direction that has an interest, and the evidence about the source's records."""

    targets: list[CollectionTarget]
    """In no order."""
    records: NightlyRecords
    payments: Payments
    """The credits that each person has paid; NO_PAYMENTS in a schedule of some airports alone."""


def load_schedule(
    session: Session, timing: CollectionTiming, now: datetime, airports: Collection[str] | None = None
) -> Schedule:
    """Load every airport and direction that has an interest, with what is due for it at `now`; and the evidence.

    `airports`: load only the targets of these, and no payments, so that it costs the less the fewer they are; None: of
    all. An interest in both directions makes two targets. An airport whose code was retired makes none: the source has
    no flights of it, and its credits would be lost.
    """
    records = load_records(session, now)
    coverage = {
        (row.airport, row.direction): row
        for row in session.scalars(_restrict(_COVERAGE, CoverageRow.airport, airports))
    }
    unheard = {
        (row.airport, row.direction): row.asked_until
        for row in session.scalars(_restrict(_UNHEARD, UnheardRow.airport, airports))
    }
    polls = {
        (row.airport, row.direction): row
        for row in session.scalars(_restrict(_LAST_POLLS, LastPollRow.airport, airports))
    }
    targets = []
    for (icao, direction), demand in _load_demands(session, airports).items():
        if find_airport(icao) is None:
            continue
        key = icao, direction.value
        row = coverage.get(key)
        cursor = row.covered_until if row else unheard.get(key)
        next_begin = _find_next_begin(records, direction, compute_next_begin(cursor, demand.find_begin(now), now), now)
        targets.append(
            CollectionTarget(
                airport=icao,
                direction=direction,
                interests=demand.interests,
                people=demand.people,
                next_begin=next_begin,
                available_until=_find_available_until(records, direction, row, next_begin, now),
                cursor=cursor,
                covered_until=row.covered_until if row else None,
                correction=_find_correction(row, timing, now) if row else None,
                polled_at=poll.asked_at if (poll := polls.get(key)) else None,
                uncounted_begin=poll.uncounted_begin if poll else None,
                uncounted_at=poll.uncounted_at if poll else None,
            )
        )
    return Schedule(targets, records, load_payments(session) if airports is None else NO_PAYMENTS)


def load_earliest_begins(session: Session, now: datetime) -> dict[Direction, datetime]:
    """Return, by direction, the earliest begin of a next interval to collect, as `load_schedule` gives it.

    A direction without targets is left out. Loads neither people nor what is due, so that it is cheap for thousands of
    airports.
    """
    records = load_records(session, now)
    cursors = {
        **{(row.airport, row.direction): row.asked_until for row in session.execute(_UNHEARD_CURSORS)},
        **{(row.airport, row.direction): row.covered_until for row in session.execute(_COVERED_CURSORS)},
    }
    # Most airports share their instants, so the rules are applied once for each pair of them.
    pairs: dict[Direction, set[tuple[datetime | None, datetime]]] = {}
    for (icao, part), demand in _load_demands(session, None).items():
        if find_airport(icao) is not None:
            pairs.setdefault(part, set()).add((cursors.get((icao, part.value)), demand.find_begin(now)))
    return {
        part: min(
            _find_next_begin(records, part, compute_next_begin(cursor, begin, now), now) for cursor, begin in found
        )
        for part, found in pairs.items()
    }


def list_due_evidence(
    schedule: Schedule,
    beacons: Iterable[str],
    now: datetime,
    timing: CollectionTiming,
    failing: FailingAirports | None = None,
) -> list[EvidenceCall]:
    """Return the evidence calls that are due: about the days that some target waits for, and about yesterday.

    Yesterday's arrivals are asked for, as long as there is any target, even if no target waits for them: the answer
    shows whether our clock is right. `failing`: airports in whose place others are asked.
    """
    pending: dict[Direction, set[datetime]] = {part: set() for part in Direction.BOTH.parts}
    for target in schedule.targets:
        pending[target.direction].update(list_days(target.next_begin, now))
    if schedule.targets:
        pending[Direction.ARRIVALS].add(day_of(now) - DAY)
    candidates = {part: list_candidates(schedule, beacons, part) for part in Direction.BOTH.parts}
    return list_evidence_calls(schedule.records, pending, candidates, now, timing.record, failing)


def list_candidates(schedule: Schedule, beacons: Iterable[str], direction: Direction) -> list[str]:
    """Return the airports that may prove a record of the direction, in the order in which they are asked.

    Of the watched airports the two with most people, of equals those that somebody has watched for longest: one person
    with many interests does not choose them for all.
    """
    targets = sorted(schedule.targets, key=lambda each: (-len(each.people), min(each.people.values()), each.airport))
    watched = [target.airport for target in targets if target.direction is direction]
    last = _keep_known(schedule.records.find_last_airport(direction))
    return choose_candidates(last, watched, [each for each in beacons if _keep_known(each)])


def list_retired_airports(session: Session) -> list[str]:
    """Return the codes with interests that no airport has any more, in their order; their flights are not collected."""
    watched = session.scalars(select(InterestRow.airport).distinct())
    return sorted(icao for icao in watched if find_airport(icao) is None)


def _keep_known(icao: str | None) -> str | None:
    """Return the code unchanged if an airport has it, else None."""
    return icao if icao is not None and find_airport(icao) is not None else None


def _find_next_begin(records: NightlyRecords, direction: Direction, begin: datetime, now: datetime) -> datetime:
    """Return the begin of the next interval to collect: `begin`, or later if the record of its day is given up."""
    return skip_missing_days(begin, lambda day: records.is_given_up(day, direction, now))


def _find_available_until(
    records: NightlyRecords, direction: Direction, row: CoverageRow | None, next_begin: datetime, now: datetime
) -> datetime:
    """Return the end of the days from `next_begin` on whose record is whole.

    Return `next_begin` itself if its day is not whole, or while an empty answer for it is doubted.
    """
    doubted_at = row.doubted_at if row is not None and row.doubted_day == next_begin else None
    if doubted_at is not None and now < doubted_at + ASK_AGAIN_AFTER - JITTER:
        return next_begin
    return compute_available_until(next_begin, lambda day: records.is_whole(day, direction))


def _find_correction(row: CoverageRow, timing: CollectionTiming, now: datetime) -> tuple[datetime, datetime] | None:
    """Return the oldest interval (begin, end) of this coverage that is due for a correction, or None if none is due.

    After an empty answer it is due again a day later. None is due while an empty answer for the next day is doubted:
    the source may be out, and one doubt at a time is stored.
    """
    due = find_due_correction(
        max(row.corrected_until or row.covered_from, row.covered_from), row.covered_until, now, timing.corrections_after
    )
    if due is None or row.doubted_day is None or row.doubted_at is None:
        return due
    is_doubted = row.doubted_day == due[0] and now < row.doubted_at + DAY - JITTER
    return None if is_doubted or row.doubted_day >= row.covered_until else due


@dataclass(slots=True)
class _TargetDemand:
    """The interests in one airport and direction: their number, and by person the times that decide the first day."""

    interests: int = 0
    people: dict[UUID, datetime] = field(default_factory=dict)
    """By person: when the first of theirs was set."""
    effective_from: dict[UUID, datetime] = field(default_factory=dict)
    """By person: the earliest of theirs."""

    def find_begin(self, now: datetime) -> datetime:
        """Return where the first collection of this airport and direction begins, so that it serves these people."""
        return find_common_begin(
            ((effective_from, self.people[person]) for person, effective_from in self.effective_from.items()), now
        )


def _restrict(query: _Query, airport: InstrumentedAttribute[str], airports: Collection[str] | None) -> _Query:
    """Return the query for the rows of some airports alone, or unchanged if `airports` is None."""
    return query if airports is None else query.where(airport.in_(airports))


def _load_demands(session: Session, airports: Collection[str] | None) -> Mapping[tuple[str, Direction], _TargetDemand]:
    """Return, by airport and direction, the number of interests, and what each of their people wants.

    `airports`: only the interests in these; None: in all. A direction without interests is left out. An interest
    in both directions counts for each of them.
    """
    query = _restrict(_WISHES, InterestRow.airport, airports)
    demands: dict[tuple[str, Direction], _TargetDemand] = {}
    for icao, direction, person, interests, effective_from, created_at in session.execute(query):
        for part in Direction(direction).parts:
            demand = demands.setdefault((icao, part), _TargetDemand())
            demand.interests += interests
            demand.effective_from[person] = min(demand.effective_from.get(person, effective_from), effective_from)
            demand.people[person] = min(demand.people.get(person, created_at), created_at)
    return demands
