"""Queries for the planner of history: airports with interests in percent, and what is known before their coverage."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from uuid import UUID

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from collector.intervals import DAY, day_of
from collector.model import CoverageRow, InterestRow
from collector.settled.evidence import NightlyRecords
from collector.settled.history import HistoryTarget, find_first_wanted, list_wanted_days, must_wait_for_proof
from collector.settled.history_days import load_history_days
from collector.settled.planner import CollectionTarget
from collector.settled.schedule import ASK_AGAIN_AFTER, Schedule
from domain.interests import Direction

Key = tuple[str, Direction]
"""An airport and a direction, never both."""
People = Mapping[Key, Mapping[UUID, datetime]]
"""Who has an interest in percent, by airport and direction, each with the time since when."""


def load_history(session: Session, schedule: Schedule, now: datetime) -> list[HistoryTarget]:
    """Load the airports and directions with an interest in percent, with the days to ask for now as history.

    Left out are those without coverage yet, and those of which days are due: these come first. An interest in both
    directions makes two. After an answer that cannot be counted, nothing is asked for during some hours.
    """
    return _load_ready(session, schedule, _load_people(session, None), now)


def _load_ready(session: Session, schedule: Schedule, people: People, now: datetime) -> list[HistoryTarget]:
    """Load what `load_history` loads, of the airports and directions in `people`."""
    if not people:
        return []
    targets = {(target.airport, target.direction): target for target in schedule.targets}
    keys = [key for key in people if key in targets and _is_up_to_date(targets[key])]
    airports = {airport for airport, _ in keys}
    rows = {
        (row.airport, Direction(row.direction)): row
        for row in session.scalars(select(CoverageRow).where(CoverageRow.airport.in_(airports)))
    }
    known = load_history_days(session, airports, now)
    return [
        build_history_target(targets[key], rows[key], known.get(key, {}), people[key], schedule.records, now)
        for key in keys
        if key in rows
    ]


def load_forecast_history(
    session: Session, schedule: Schedule, now: datetime, airports: Collection[str] | None = None
) -> list[HistoryTarget]:
    """Load what `load_history` will load once what is due is collected, also of airports without coverage yet.

    `airports`: those that the schedule was loaded for; None: all.
    """
    people = _load_people(session, airports)
    ready = _load_ready(session, schedule, people, now)
    there = {(each.airport, each.direction) for each in ready}
    rest = {
        (target.airport, target.direction): target
        for target in schedule.targets
        if (target.airport, target.direction) in people and (target.airport, target.direction) not in there
    }
    airports = {airport for airport, _ in rest}
    rows = {
        (row.airport, Direction(row.direction)): row.covered_from
        for row in session.scalars(select(CoverageRow).where(CoverageRow.airport.in_(airports)))
    }
    known = load_history_days(session, airports, now)
    for key, target in rest.items():
        is_gap = target.cursor is None or target.cursor < target.next_begin
        begin = target.next_begin if is_gap else rows.get(key, target.next_begin)
        row = CoverageRow(
            airport=target.airport,
            direction=target.direction.value,
            covered_from=begin,
            covered_until=max(target.available_until, target.next_begin),
        )
        ready.append(build_history_target(target, row, known.get(key, {}), people[key], schedule.records, now))
    return ready


def build_history_target(
    target: CollectionTarget,
    row: CoverageRow,
    known: Mapping[datetime, bool],
    people: Mapping[UUID, datetime],
    records: NightlyRecords,
    now: datetime,
) -> HistoryTarget:
    """Build the target of history of an airport and direction from its coverage and the days that are known before."""
    begin = find_first_wanted(target.airport, row.covered_until)

    def must_wait(day: datetime) -> bool:
        """Return True if the record of a day is not to be asked for now, else False."""
        return must_wait_for_proof(records.get(day, target.direction), now)

    is_deferred = (
        target.uncounted_begin is not None
        and target.uncounted_at is not None
        and target.uncounted_begin < row.covered_from
        and target.uncounted_at <= now < target.uncounted_at + ASK_AGAIN_AFTER
    )
    wanted = () if is_deferred else tuple(list_wanted_days(begin, row.covered_from, known, must_wait))
    return HistoryTarget(
        airport=target.airport,
        direction=target.direction,
        people=people,
        polled_at=target.polled_at,
        covered_until=row.covered_until,
        covered=frozenset([*(day for day, is_covered in known.items() if is_covered), *_list_covered_days(row, begin)]),
        wanted=wanted,
        unproven=frozenset(day for day in wanted if records.get(day, target.direction).whole_since is None),
    )


def _list_covered_days(row: CoverageRow, begin: datetime) -> Iterable[datetime]:
    """Yield the UTC midnights of the days from `begin` on that a coverage holds from midnight to midnight."""
    day = max(day_of(row.covered_from), begin)
    while day + DAY <= row.covered_until:
        if day >= row.covered_from:
            yield day
        day += DAY


def _is_up_to_date(target: CollectionTarget) -> bool:
    """Return True if the target has coverage, no day of it is due, and no gap is to come; else False."""
    return target.covered_until == target.next_begin >= target.available_until


def _load_people(session: Session, airports: Collection[str] | None) -> People:
    """Return who has an interest in percent in some airports, or in any if `airports` is None."""
    query = (
        select(InterestRow.airport, InterestRow.direction, InterestRow.user_id, func.min(InterestRow.created_at))
        .where(or_(InterestRow.high_percent.is_not(None), InterestRow.low_percent.is_not(None)))
        .group_by(InterestRow.airport, InterestRow.direction, InterestRow.user_id)
    )
    if airports is not None:
        query = query.where(InterestRow.airport.in_(airports))
    wishes: dict[Key, dict[UUID, datetime]] = {}
    for airport, direction, person, since in session.execute(query):
        for part in Direction(direction).parts:
            people = wishes.setdefault((airport, part), {})
            people[person] = min(people.get(person, since), since)
    return wishes
