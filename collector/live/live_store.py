"""The transaction that publishes what a feed has found: movements, coverage and the feed's memory commit together.

So a leader that is killed anywhere repeats nothing, and loses nothing but the polls since the last stored memory.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog
from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from chassis.clock import Clock
from chassis.db.database import Database
from chassis.db.outbox import OutboxMessage
from collector.intervals import Interval
from collector.leadership.terms import Term, require_term
from collector.live.airfields import AirfieldIndex
from collector.live.feed_state import FeedState, FoundMovement
from collector.live.publication import cut_before, find_batch_interval, plan_coverage
from collector.live.snapshots import FORMAT, FeedMemory, Stretch, UnreadableSnapshotError, dump_memory, load_memory
from collector.live.told import LiveCoverageTable, find_told_until, load_settled_until, to_instant, to_seconds
from collector.live.wanted import Target
from collector.messages import encode_flights_observed, encode_partial_flights
from collector.model import OUTBOX, LiveMovementRow, LiveOutcome, LiveStateRow
from collector.sources.flight import Flight
from towerwatch.flights.v1.events_pb2 import PROVENANCE_LIVE

log = structlog.get_logger()

SAME_WITHIN: Final = timedelta(seconds=180)
"""A movement of the same aircraft that another feed found so near in time is the same movement."""

READ_DISTRUSTED_EVERY: Final = timedelta(minutes=5)
"""Age at which it is read again which airports agree badly with the record."""

LoadDistrusted = Callable[[Session], Collection[Target]]
"""A query for the airports and directions whose live coverage is not published, because it agreed badly."""


def distrust_none(_session: Session) -> Collection[Target]:
    """Return no airport: all are trusted."""
    return ()


@dataclass(frozen=True, slots=True)
class Expectation:
    """The coverage that all feeds together know of when one of them is stored."""

    stretches: Mapping[Target, Sequence[Stretch]]
    """What any feed covers and is not published yet, in order, without overlaps."""
    expected_from: Mapping[Target, float]
    """From where on a feed that goes on will cover time."""


@dataclass(frozen=True, slots=True)
class Stored:
    """The movements that a transaction has published."""

    movements: tuple[FoundMovement, ...]
    """Those that no other feed had found before."""


class LiveStore:
    """The writer of what feeds find. Only the leader calls it, one transaction at a time."""

    def __init__(self, database: Database, clock: Clock, load_distrusted: LoadDistrusted = distrust_none) -> None:
        self._database = database
        self._clock = clock
        self._load_distrusted = load_distrusted
        self._table = LiveCoverageTable()
        self._distrusted: frozenset[Target] = frozenset()
        self._distrusted_read_at: timedelta | None = None

    def begin_term(self) -> None:
        """Forget what was read in an earlier term: another leader may have written since."""
        self._table.discard()
        self._distrusted_read_at = None

    def _find_distrusted(self, session: Session) -> frozenset[Target]:
        """Return the airports and directions that agreed badly; they change once a night, and are read now and then."""
        elapsed = self._clock.elapsed()
        if self._distrusted_read_at is None or elapsed - self._distrusted_read_at >= READ_DISTRUSTED_EVERY:
            self._distrusted = frozenset(self._load_distrusted(session))
            self._distrusted_read_at = elapsed
        return self._distrusted

    def load_memory(self, feed: str, airfields: AirfieldIndex) -> FeedMemory | None:
        """Return the stored memory of a feed; None, which is logged, if it cannot be used, or if there is none.

        Raises DatabaseUnavailableError.
        """
        with self._database.reading() as session:
            row = session.get(LiveStateRow, feed)
            stored = None if row is None else (row.format, row.body)
        if stored is None:
            return None
        if stored[0] != FORMAT:
            log.warning("live.state_dropped", feed=feed, reason="another version has stored it")
            return None
        try:
            return load_memory(stored[1], airfields)
        except UnreadableSnapshotError as error:
            log.warning("live.state_dropped", feed=feed, reason=str(error))
            return None

    def store(self, term: Term, feed: str, state: FeedState, known: Expectation, report: bytes) -> Stored:
        """Publish a feed's movements, and the coverage that is due of any feed; store its memory, and a report of it.

        When it returns, what was published is taken out of the feed's state. Raises SupersededError and
        DatabaseUnavailableError; then nothing is taken out.
        """
        now = self._clock.now()
        found = tuple(state.unpublished)
        try:
            with self._database.transaction() as session:
                require_term(session, term)
                self._table.load(session, now)
                targets = {*known.stretches, *(each.target for each in found)}
                settled = load_settled_until(session, targets)
                published = self._insert_movements(session, feed, found, settled)
                messages = self._encode_movements(published, settled)
                until = self._publish_coverage(session, known, settled, published, messages)
                OUTBOX.add(session, messages)
                write_state(session, feed, FORMAT, state.stated_at, dump_memory(state.get_memory(until)))
                write_state(session, name_report(feed), REPORT_FORMAT, state.stated_at, report)
        except BaseException:  # whatever it was: what was noted is not stored
            self._table.discard()
            raise
        self._table.confirm()
        state.drop_published(len(found), until)
        return Stored(published)

    def store_report(self, term: Term, feed: str, stated_at: float, report: bytes) -> None:
        """Store a report of a feed alone. Raises SupersededError, DatabaseUnavailableError."""
        with self._database.transaction() as session:
            require_term(session, term)
            write_state(session, name_report(feed), REPORT_FORMAT, stated_at, report)

    def _insert_movements(
        self, session: Session, feed: str, found: Sequence[FoundMovement], settled: Mapping[Target, int]
    ) -> tuple[FoundMovement, ...]:
        """Insert the movements that are new, and return them.

        Left out are those that are stored already, that another feed has found, or whose day is settled: there the
        record has said which flights there were.
        """
        new: list[FoundMovement] = []
        by_target: dict[Target, list[FoundMovement]] = {}
        for each in found:
            by_target.setdefault(each.target, []).append(each)
        for (airport, direction), group in by_target.items():
            times = [each.movement.event_time for each in group]
            rows = session.execute(
                select(LiveMovementRow.icao24, LiveMovementRow.event_time, LiveMovementRow.feed).where(
                    LiveMovementRow.airport == airport,
                    LiveMovementRow.direction == direction.value,
                    LiveMovementRow.event_time >= min(times) - SAME_WITHIN,
                    LiveMovementRow.event_time <= max(times) + SAME_WITHIN,
                )
            )
            known = {(icao24, event_time): found_by for icao24, event_time, found_by in rows}
            for each in group:
                movement = each.movement
                if to_seconds(movement.event_time) < settled.get((airport, direction), 0):
                    continue
                if any(
                    icao24 == movement.icao24
                    and (
                        at == movement.event_time or (found_by != feed and abs(at - movement.event_time) <= SAME_WITHIN)
                    )
                    for (icao24, at), found_by in known.items()
                ):
                    continue
                known[movement.icao24, movement.event_time] = feed
                new.append(each)
        if new:
            session.execute(insert(LiveMovementRow), [_build_row(feed, each) for each in new])
        return tuple(new)

    def _encode_movements(
        self, published: Sequence[FoundMovement], settled: Mapping[Target, int]
    ) -> list[OutboxMessage]:
        """Encode movements as PARTIAL batches of their targets, which cover nothing; `settled`: the record's ends."""
        by_target: dict[Target, list[FoundMovement]] = {}
        for each in published:
            by_target.setdefault(each.target, []).append(each)
        messages: list[OutboxMessage] = []
        for target, group in sorted(by_target.items()):
            times = [to_seconds(each.movement.event_time) for each in group]
            begin, end = find_batch_interval(times, find_told_until(target, settled, self._table))
            interval = Interval(*target, to_instant(begin), to_instant(end))
            flights = [build_flight(each) for each in group]
            messages += encode_partial_flights(interval, flights, provenance=PROVENANCE_LIVE)
        return messages

    def _publish_coverage(
        self,
        session: Session,
        known: Expectation,
        settled: Mapping[Target, int],
        published: Sequence[FoundMovement],
        messages: list[OutboxMessage],
    ) -> dict[Target, float]:
        """Store the coverage that is due, and add its messages; return up to where each target's is stored now."""
        moving = {each.target for each in published}
        distrusted = self._find_distrusted(session)
        until: dict[Target, float] = {}
        for target, all_stretches in sorted(known.stretches.items()):
            told = find_told_until(target, settled, self._table)
            stored = self._table.get_stored_until(target)
            is_trusted = target not in distrusted
            reached = max([each for each in (told, stored) if each is not None], default=None)
            stretches = cut_before(all_stretches, reached)
            due = plan_coverage(
                stretches,
                told if is_trusted else reached,
                known.expected_from.get(target),
                with_movements=target in moving,
                stored_until=stored,
            )
            self._table.add(session, target, due, published=is_trusted)
            if is_trusted:
                for each in due:
                    messages += encode_flights_observed(
                        *target,
                        to_instant(each.begin),
                        to_instant(each.end),
                        (),
                        covered_from=to_instant(self._table.find_begin(target, each.end)),
                        provenance=PROVENANCE_LIVE,
                    )
            if due:
                reached = due[-1].end
            if reached is not None:
                until[target] = reached
        return until


REPORT_FORMAT: Final = "report-1"


def name_report(feed: str) -> str:
    """Return the key under which the report of a feed is stored, beside its memory."""
    return f"{feed} report"


def write_state(session: Session, key: str, kind: str, stated_at: float, body: bytes) -> None:
    """Insert or replace a row of the table of states."""
    values = {"format": kind, "stated_at": stated_at, "body": body}
    done = session.execute(update(LiveStateRow).where(LiveStateRow.feed == key).values(values))
    if done.rowcount == 0:  # type: ignore[attr-defined]
        session.execute(insert(LiveStateRow).values(feed=key, **values))


def build_flight(found: FoundMovement) -> Flight:
    """Return a movement as a flight: it is seen at one instant, and its other airport is not known."""
    movement = found.movement
    return Flight.model_construct(
        icao24=movement.icao24,
        callsign=movement.callsign,
        first_seen=movement.event_time,
        last_seen=movement.event_time,
        departure_airport="",
        arrival_airport="",
    )


def _build_row(feed: str, found: FoundMovement) -> dict[str, str | datetime]:
    """Return the values of the columns of a movement's row, by name."""
    movement = found.movement
    return {
        "airport": movement.airport,
        "direction": movement.direction.value,
        "icao24": movement.icao24,
        "callsign": movement.callsign,
        "event_time": movement.event_time,
        "evidence": movement.evidence.value,
        "feed": feed,
        "found_at": to_instant(int(found.found_at)),
        "outcome": LiveOutcome.PUBLISHED.value,
    }
