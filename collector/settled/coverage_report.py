"""The coverage report of an airport: what is covered, by which evidence, and what the next day waits for."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from chassis.clock import Clock
from chassis.db.database import Database
from collector.airport_checks import require_interest
from collector.flights import CoveredInterval, load_covered_intervals
from collector.intervals import DAY, day_of
from collector.model import CoverageRow
from collector.settled.agreement import (
    JUDGED_DAYS,
    DailyAgreement,
    LiveStretch,
    find_distrusted,
    has_published_stretch,
    load_agreements,
    load_stretches,
)
from collector.settled.evidence import NightlyRecord
from collector.settled.explain import build_progress, explain_gap, explain_waiting
from collector.settled.schedule import CollectionTiming, load_schedule
from collector.settled.source_failure import load_failure
from collector.settled.status import SHOWN_DAYS
from collector.unheard import explain_unheard, find_unheard_since
from domain.airports import explain_retired_code
from domain.interests import Direction


@dataclass(frozen=True, slots=True)
class LiveReport:
    """The live coverage of one direction of an airport, and how well it agreed with the settled record."""

    stretches: list[LiveStretch]
    """Of the last days, in order; also those that were found and not published."""
    agreements: list[DailyAgreement]
    """Of the last days that have one, newest first."""
    is_trusted: bool
    """False if it agrees so badly that its coverage is not published."""


@dataclass(frozen=True, slots=True)
class CoverageReport:
    """The coverage of one airport, its gaps, its evidence, and what the next day of each direction waits for."""

    covered: dict[Direction, CoveredInterval]
    """A direction that was never collected is left out."""
    waiting_for: dict[Direction, str]
    """The evidence that the next day waits for, in words, by direction; a direction that waits for none is left out."""
    gaps: dict[Direction, str]
    """The days that are never collected, in words, by direction; a direction without such days is left out."""
    records: list[NightlyRecord]
    """The evidence about the source's records of the last days, newest first; the same for all airports."""
    notice: str | None
    """The statement that the airport is unheard; None if neither is known."""
    live: dict[Direction, LiveReport]
    """What is known of both directions' live coverage."""
    heard: str | None = None
    """Whether the airport is heard live now, in words; None: nothing is collected live."""


ExplainLive = Callable[[Session, str, datetime], str | None]
"""A query that says of an airport, at a time, whether it is heard live; None: nothing is collected live."""


def explain_nothing(_session: Session, _icao: str, _now: datetime) -> None:
    """Return None: nothing is collected live."""


class CoverageReports:
    """Loads coverage reports of airports from the database; thread-safe."""

    def __init__(
        self, database: Database, clock: Clock, timing: CollectionTiming, explain_live: ExplainLive = explain_nothing
    ) -> None:
        self._database = database
        self._explain_live = explain_live
        self._clock = clock
        self._timing = timing

    def load_report(self, user_id: UUID, icao: str) -> CoverageReport:
        """Return the report of an airport in which the user has an interest.

        Raises NoSuchAirportError, NoSuchInterestError, DatabaseUnavailableError.
        """
        now = self._clock.now()
        begin = day_of(now) - JUDGED_DAYS * DAY
        with self._database.reading() as session:
            require_interest(session, user_id, icao)
            schedule = load_schedule(session, self._timing, now, [icao])
            rows = {
                row.direction: row for row in session.scalars(select(CoverageRow).where(CoverageRow.airport == icao))
            }
            since = find_unheard_since(session, icao, now)
            covered = load_covered_intervals(session, icao)
            live_gaps = {part for part, row in rows.items() if _was_gap_live(session, row)}
            live = _load_live_reports(session, icao, begin, now)
            failure = load_failure(session)
            heard = self._explain_live(session, icao, now)
        waiting, gaps = {}, {}
        for target in schedule.targets:
            row = rows.get(target.direction.value)
            progress = build_progress(target, row, since)
            was_live = target.direction.value in live_gaps
            if row is not None and (gap := explain_gap(row, target.next_begin, was_live)) is not None:
                gaps[target.direction] = gap
            sentence = explain_waiting(progress, schedule.records, self._timing.record, now, failure)
            if sentence is not None:
                waiting[target.direction] = sentence
        notice = explain_retired_code(icao)
        if notice is None and since is not None:
            notice = explain_unheard(icao, since)
        return CoverageReport(covered, waiting, gaps, schedule.records.list_newest(SHOWN_DAYS), notice, live, heard)


class LiveReports:
    """Loads what is known of an airport's live coverage, without regard to who asks; thread-safe."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def load_live(self, icao: str) -> dict[Direction, LiveReport]:
        """Return the reports of both directions of an airport. Raises DatabaseUnavailableError."""
        now = self._clock.now()
        with self._database.reading() as session:
            return _load_live_reports(session, icao, day_of(now) - JUDGED_DAYS * DAY, now)


def _load_live_reports(session: Session, icao: str, begin: datetime, end: datetime) -> dict[Direction, LiveReport]:
    """Load for each direction the live stretches in [begin, end), the last agreements, and whether it is trusted."""
    distrusted = find_distrusted(session, icao)
    return {
        part: LiveReport(
            load_stretches(session, icao, part, begin, end),
            load_agreements(session, icao, part, SHOWN_DAYS),
            (icao, part) not in distrusted,
        )
        for part in Direction.BOTH.parts
    }


def _was_gap_live(session: Session, row: CoverageRow) -> bool:
    """Return True if a part of the coverage's last gap was covered live, False if none was or there is no gap."""
    if row.gap_from is None or row.gap_until is None:
        return False
    return has_published_stretch(session, row.airport, Direction(row.direction), row.gap_from, row.gap_until)
