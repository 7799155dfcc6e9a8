"""The republication: all interests and the retained flights are published again to a log that knows nothing of them.

What was told is published first, as past: the stream folds it and raises nothing, so that it knows the breaches that go
on. Behind a barrier of the outbox comes what was not told yet, as when it was new: its alerts are raised. The stream
must have read the first part before the second is published, because interests and flights are two topics that may
overtake each other. Everything that happens meanwhile is added behind the barrier, too.

What was live was told minutes after it happened: it is past, but for what was still in the outbox.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from chassis.db.outbox import OutboxMessage
from collector.event_log.retained import (
    RetainedCoverage,
    RetainedFlight,
    cut_out,
    load_flights,
    load_targets,
    load_unpublished_live,
)
from collector.intervals import DAY, Interval, split_by_days
from collector.messages import (
    encode_flights_observed,
    encode_interest_removal,
    encode_interest_set,
    encode_new_beginning,
    encode_partial_flights,
)
from collector.model import OUTBOX, InterestRow, LeadershipRow
from collector.sources.flight import Flight
from towerwatch.flights.v1.events_pb2 import PROVENANCE_LIVE, PROVENANCE_SETTLED
from towerwatch.topics import FLIGHTS_OBSERVED

_LONGEST_EARLY: Final = 7 * DAY
"""The longest interval of a batch; flights never come earlier than their coverage by as much."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """A range [begin, end) that is published again, of one provenance: as covered, or as history."""

    begin: datetime
    end: datetime
    is_live: bool = False
    is_history: bool = False


def republish(session: Session, told_flight_id: int) -> None:
    """Add everything that the stream must know to the outbox, in place of the flights that are in the outbox now.

    First all that was told, as past; then a barrier; then all that was not told. Interests that were not told are first
    removed, so that setting them after the barrier has their alerts. The leader's lock keeps collectors from storing
    flights meanwhile. Flights up to the id `told_flight_id` were told.
    """
    session.execute(select(LeadershipRow).with_for_update()).all()
    unpublished = load_unpublished_live(session)
    OUTBOX.withdraw(session, FLIGHTS_OBSERVED.name)
    OUTBOX.remove_barriers(session)
    targets = load_targets(session, unpublished)
    for target in targets:
        OUTBOX.add(session, encode_told(target, load_flights(session, target, told_flight_id, unpublished)))
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
        OUTBOX.add(session, encode_untold(target, load_flights(session, target, told_flight_id, unpublished)))
    OUTBOX.add(session, [encode_interest_set(row.value()) for row in rows if row.interest_id not in told])


def encode_told(target: RetainedCoverage, flights: Sequence[RetainedFlight]) -> Iterator[OutboxMessage]:
    """Yield the events that tell again, as past, what was told of a target before the log was lost.

    They are a new beginning, the covered time a day at a time, and the flights that came before their time was covered.
    A day comes with its flights, and with earlier ones that no range covers. History comes at the place where it came
    the first time: what is usual in a window follows from what was known when the coverage reached it. `flights`: those
    of the target, in the order of their event times; untold ones are ignored, except those of history, of which nothing
    is ever told.
    """
    begin = target.find_begin()
    yield encode_new_beginning(target.airport, target.direction, begin, begin + DAY)
    pieces = _list_told_pieces(target)
    of_history = [each for each in flights if _is_of_history(target, each)]
    told = [each for each in flights if each.was_told and not _is_of_history(target, each)]
    published, end, unbroken_from = 0, begin, begin
    for piece in _order_by_publication(pieces, target):
        if piece.is_history:
            for interval in split_by_days(target.airport, target.direction, piece.begin, piece.end):
                yield from encode_flights_observed(
                    target.airport,
                    target.direction,
                    interval.begin,
                    interval.end,
                    _select(of_history, interval.begin, interval.end),
                    past=True,
                    history=True,
                )
            continue
        unbroken_from = piece.begin if piece.begin > end else unbroken_from
        for interval in split_by_days(target.airport, target.direction, piece.begin, piece.end):
            following = next(
                (number for number in range(published, len(told)) if told[number].event_time >= interval.end), len(told)
            )
            yield from encode_flights_observed(
                target.airport,
                target.direction,
                interval.begin,
                interval.end,
                [each.flight for each in told[published:following]],
                past=True,
                covered_from=unbroken_from,
                provenance=PROVENANCE_LIVE if piece.is_live else PROVENANCE_SETTLED,
            )
            published = following
        end = piece.end
    yield from _encode_early(target, end, told[published:], past=True)


def encode_untold(target: RetainedCoverage, flights: Sequence[RetainedFlight]) -> Iterator[OutboxMessage]:
    """Yield the events that tell what was not told of a target yet, as when it was new.

    They are late flights of told days, the untold days, flights that came before their time was covered, and at the end
    the live coverage that was not published. `flights`: those of the target, in the order of their event times; told
    ones are ignored, except those that were taken back with an untold day.
    """
    begin, told_until = target.find_begin(), _find_told_end(target)
    untold = [each for each in flights if not each.was_told and not _is_of_history(target, each)]
    settled = target.list_settled()
    settled_from = settled[0][0] if settled else told_until
    for interval in split_by_days(target.airport, target.direction, begin, settled_from):
        yield from encode_partial_flights(interval, _select(untold, interval.begin, interval.end))
    for stretch_begin, stretch_end in settled:
        for interval in split_by_days(target.airport, target.direction, stretch_begin, min(stretch_end, told_until)):
            if late := _select(untold, interval.begin, interval.end):
                yield from encode_flights_observed(
                    target.airport, target.direction, interval.begin, interval.end, late, covered_from=stretch_begin
                )
    retracted = [each.identity for each in flights if each.is_retracted]
    for stretch_begin, stretch_end in settled:
        for interval in split_by_days(target.airport, target.direction, max(stretch_begin, told_until), stretch_end):
            yield from encode_flights_observed(
                target.airport,
                target.direction,
                interval.begin,
                interval.end,
                _select(untold, interval.begin, interval.end),
                covered_from=stretch_begin,
                retracted=[each for each in retracted if each.event_time < interval.end],
            )
            retracted = [each for each in retracted if each.event_time >= interval.end]
    covered_until = max(told_until, target.covered_until)
    early = [each for each in untold if each.event_time >= covered_until]
    watermark = max([covered_until, *(piece.end for piece in _list_told_pieces(target))])
    yield from _encode_early(target, watermark, early, past=False)
    for live_begin, end in target.live:
        since = max(live_begin, target.covered_until, target.untold_live_from or end)
        for interval in split_by_days(target.airport, target.direction, since, end):
            yield from encode_flights_observed(
                target.airport, target.direction, interval.begin, interval.end, (), provenance=PROVENANCE_LIVE
            )


def _find_told_end(target: RetainedCoverage) -> datetime:
    """Return the end of the settled coverage that was told; where that begins, or history ends, if nothing was."""
    begin = min(max(target.find_begin(), target.covered_from), target.covered_until)
    return min(max(begin, target.told_until or begin), target.covered_until)


def _list_told_pieces(target: RetainedCoverage) -> list[_Piece]:
    """Return the pieces of time that were published as covered, in order and without overlaps.

    They are the settled ranges, and the live stretches before, between and after them.
    """
    first, told_until = target.find_begin(), _find_told_end(target)
    settled = [(begin, min(end, told_until)) for begin, end in target.list_settled() if begin < told_until]
    pieces = [_Piece(begin, end) for begin, end in settled]
    for begin, end in target.live:
        until = min(end, target.untold_live_from or end)
        pieces += [_Piece(*left, is_live=True) for left in cut_out((max(begin, first), until), settled)]
    return sorted((each for each in pieces if each.begin < each.end), key=lambda each: each.begin)


def _order_by_publication(pieces: Sequence[_Piece], target: RetainedCoverage) -> Iterator[_Piece]:
    """Yield the covered pieces in order, and between them each stretch of history in its place of publication.

    Its place is where the coverage ended when it was published; a piece that holds that instant is cut in two there. Of
    stretches with one place, the newest comes first.
    """
    history = sorted(target.list_history(), key=lambda each: (each.known_at or each.begin, -each.begin.timestamp()))
    for piece in pieces:
        while history and (at := history[0].known_at or history[0].begin) < piece.end:
            if at > piece.begin:
                yield replace(piece, end=at)
                piece = replace(piece, begin=at)
            yield _Piece(history[0].begin, history[0].end, is_history=True)
            history.pop(0)
        yield piece
    for stretch in history:
        yield _Piece(stretch.begin, stretch.end, is_history=True)


def _is_of_history(target: RetainedCoverage, flight: RetainedFlight) -> bool:
    """Return True if a flight is published again as history: it lies in a stretch of history, in no live one."""
    at = flight.event_time
    if not any(each.begin <= at < each.end for each in target.list_history()):
        return False
    return not any(begin <= at < end for begin, end in target.live)


def _encode_early(
    target: RetainedCoverage, begin: datetime, flights: Sequence[RetainedFlight], past: bool
) -> Iterator[OutboxMessage]:
    """Yield the events of flights that came before their time was covered, as partial batches from `begin` on.

    `flights`: in the order of their event times. `begin`: where coverage ends; a later begin would declare a gap. Only
    flights that lie more than a week after the coverage, which are live ones, have such a begin.
    """
    rest = list(flights)
    while rest:
        if rest[0].event_time >= begin + _LONGEST_EARLY:
            begin = rest[0].event_time
        end = begin + _LONGEST_EARLY
        batch = [each.flight for each in rest if each.event_time < end]
        yield from encode_partial_flights(Interval(target.airport, target.direction, begin, end), batch, past)
        rest = rest[len(batch) :]


def _select(flights: Sequence[RetainedFlight], begin: datetime, end: datetime) -> list[Flight]:
    """Return the flights with event times in [begin, end)."""
    return [each.flight for each in flights if begin <= each.event_time < end]
